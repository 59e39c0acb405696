"""HTTP API: an ASGI application over one service."""

import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from runtime.errors import TruecopyError
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth
from runtime.server.context import RequestContext, new_context
from runtime.server.decoding import ENDINGS
from runtime.server.errors import MethodError, NotFoundError, message_of
from runtime.server.http.cors import (
    DOCS_WITH_SLASH,
    allow_origins,
    canonical_path,
    origin_refused,
    without_prefix,
)
from runtime.server.http.endpoints import Endpoint, build_endpoints
from runtime.server.http.headers import header
from runtime.server.http.responses import encode_error, encode_json
from runtime.server.service import Service

# Security header of every response; those of the HTML page are in page.py.
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")

# The key of the request's context in the ASGI scope.
_CONTEXT = "truecopy.context"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Application:
    """An ASGI application made from a coroutine: the router would wrap a plain function in layers of its own."""

    def __init__(self, run: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._run(scope, receive, send)


class HttpApp:
    """The ASGI application; while ``stopping`` is set, responses ask clients to close their connections.

    Pages of ``cors_origins`` may call it. ``root_path`` is the prefix of its paths at a proxy, which may have left it
    on them or not.
    """

    def __init__(
        self,
        service: Service,
        *,
        auth: BearerAuth,
        log: AccessLog,
        cors_origins: Sequence[str] = (),
        root_path: str = "",
    ) -> None:
        self._service = service
        self._auth = auth
        self._log = log
        self.stopping = False
        # The router alone: Starlette's own layers around it have no use here.
        self._router = Router(
            routes=[
                self._route(endpoint)
                for endpoint in build_endpoints(service, with_token=auth.required, root_path=root_path)
            ],
            redirect_slashes=False,
            default=self._unknown_path,
        )
        self._root_path = root_path
        self._respond = allow_origins(self._run_router, cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, add the headers that every response has, and write it to the log."""
        if scope["type"] == "lifespan":  # sent by servers other than ours, such as Ray Serve's
            await self._router(scope, receive, send)
            return
        scope["path"] = canonical_path(without_prefix(scope["path"], self._root_path))
        context = new_context(
            request_id=header(scope, b"x-request-id") or "",
            traceparent=header(scope, b"traceparent") or "",
            deadline_s=self._service.limits.deadline_s,
        )
        scope["app"] = self  # makes the router raise an exception for a wrong method
        scope[_CONTEXT] = context
        status = 0

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(context)]
            await send(message)

        try:
            await self._respond(scope, receive, send_with_headers)
        finally:
            seconds = time.monotonic() - context.started
            self._service.metrics.add_request("http", str(status), seconds)
            self._log.write_request("http", scope["method"], scope["path"], status, context, seconds)

    async def _run_router(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            await self._wrong_method(error, scope)(scope, receive, send)

    def _route(self, endpoint: Endpoint) -> Route:
        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            context: RequestContext = scope[_CONTEXT]
            try:
                if not endpoint.public:
                    self._auth.check(header(scope, b"authorization") or "")
                response = await endpoint.handler(request, context)
            except TruecopyError as error:
                response = self._error(error, context)
            except ENDINGS:
                raise
            except BaseException as error:  # a fault of ours: the server goes on, the log has the traceback
                self._log.write_internal_error(error, context)
                message = f"server: internal error, request ID {context.request_id}. See the server's log."
                response = encode_json({"error": message}, 500)
            await response(scope, receive, send)

        return Route(endpoint.path, _Application(respond), methods=[endpoint.method])

    def _error(self, error: TruecopyError, context: RequestContext) -> Response:
        """Return the response for an error, and count it."""
        self._service.metrics.add_rejection(type(error).__name__)
        context.error = message_of(error)
        return encode_error(error)

    async def _unknown_path(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The links of the page are relative to the path with a slash, those of the documentation to the one without it.
        moved = {self._root_path: f"{self._root_path}/", DOCS_WITH_SLASH: "../docs"}.get(scope["path"])
        if moved is not None:
            await Response(status_code=307, headers={"location": moved})(scope, receive, send)
            return
        error = NotFoundError(f"'{scope['path'][:200]}': no such path. See '/docs'.")
        await self._error(error, scope[_CONTEXT])(scope, receive, send)

    def _wrong_method(self, raised: HTTPException, scope: Scope) -> Response:
        allowed = (raised.headers or {}).get("Allow", "")
        path, method = scope["path"][:200], scope["method"]
        error = MethodError(f"'{path}': wrong method: expected {allowed}, got {method}. Use {allowed}.")
        if method == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            error = MethodError(origin_refused(header(scope, b"origin") or ""))
        response = self._error(error, scope[_CONTEXT])
        response.headers["allow"] = allowed
        return response

    def _headers(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", context.request_id.encode()), _NO_SNIFFING]
        if context.traceparent:
            headers.append((b"traceparent", context.traceparent.encode()))
        if self.stopping:
            headers.append((b"connection", b"close"))
        return headers
