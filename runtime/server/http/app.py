"""The HTTP front end: what a path means, how an error reads, which headers go out. The work is the service's."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import resources
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from runtime.errors import ArtifactError, BusyError, DeviceError, InputError, ModelError, TruecopyError
from runtime.results import Failure
from runtime.server import errors
from runtime.server.access_log import AccessLog
from runtime.server.admission import RequestContext
from runtime.server.auth import BearerAuth
from runtime.server.http.openapi import build_openapi
from runtime.server.http.requests import (
    BODY,
    number,
    read_body,
    sources_from_files,
    sources_from_json,
    sources_from_multipart,
    unpack,
    whole_number,
)
from runtime.server.http.responses import compress, encode_json, encoder, packed, size_of_results, take_timeout, timing
from runtime.server.metrics import CONTENT_TYPE
from runtime.server.open_inference.json_format import request_from_body, response_to_body, spec_to_json
from runtime.server.open_inference.requests import EXTENSIONS, PLATFORM, model_config, output_specs
from runtime.server.payloads import encoded_inputs, input_specs, kind_of, source_from_body, task_of
from runtime.server.served_model import ServedModel
from runtime.server.service import InputSource, Service, size_bytes
from runtime.server.version import VERSION, server_version

# The status of every error; the nearest class counts. A test holds this table against all classes that exist.
STATUSES: dict[type[TruecopyError], int] = {
    InputError: 400,
    errors.TokenError: 401,
    errors.NotFoundError: 404,
    errors.MethodError: 405,
    errors.TooLargeError: 413,
    errors.MediaTypeError: 415,
    BusyError: 429,
    errors.StoppingError: 503,
    errors.LateError: 504,
    errors.ClientLeftError: 499,
    ModelError: 500,
    ArtifactError: 500,
    DeviceError: 500,
    TruecopyError: 500,
}

_OPEN_PATHS = ("/v2/health/", "/page/")

_HEADER_LENGTH = "Inference-Header-Content-Length"

_PAGE_FILES = {
    "index.html": "text/html; charset=utf-8",
    "docs.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

# Every answer says that it is what its content type says; the rest concerns what a browser shows.
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-cache",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Request, RequestContext], Awaitable[Response]]


def status_of(error: TruecopyError) -> int:
    """Return the HTTP status of an error: its class's, or that of its nearest base."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


class _Application:
    """An ASGI application out of a coroutine: the router wraps plain functions in layers of its own."""

    def __init__(self, answer: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope, receive, send)


class HttpApp:
    """One ASGI application over one service."""

    def __init__(self, service: Service, *, access: BearerAuth, log: AccessLog) -> None:
        self._service = service
        self._access = access
        self._log = log
        self.stopping = False
        folder = resources.files("runtime.server") / "page"
        self._page = {name: (folder / name).read_bytes() for name in _PAGE_FILES}
        model = "/v2/models/{model}"
        versioned = model + "/versions/{version}"
        # The router alone, and first in it what is asked most: Starlette's own layers around it do nothing here.
        self._router = Router(
            routes=[
                self._route("/predict/{model}", self._predict, "POST"),
                self._route(model + "/infer", self._infer, "POST"),
                self._route("/v2/health/live", self._live, "GET"),
                self._route("/v2/health/ready", self._ready, "GET"),
                self._route("/", self._index, "GET"),
                self._route("/docs", self._docs, "GET"),
                self._route("/openapi.json", self._openapi, "GET"),
                self._route("/page/{file}", self._page_file, "GET"),
                self._route("/metrics", self._metrics, "GET"),
                self._route("/v2", self._server_metadata, "GET"),
                self._route("/v2/", self._server_metadata, "GET"),
                self._route("/v2/models", self._models, "GET"),
                self._route("/v2/models/stats", self._statistics, "GET"),
                self._route("/v2/repository/index", self._index_of_models, "POST"),
                *[
                    self._route(prefix + path, handler, method)
                    for prefix in (model, versioned)
                    for path, handler, method in (
                        ("", self._model_metadata, "GET"),
                        ("/ready", self._model_ready, "GET"),
                        ("/config", self._model_config, "GET"),
                        ("/stats", self._statistics, "GET"),
                    )
                ],
                self._route(versioned + "/infer", self._infer, "POST"),
            ],
            redirect_slashes=False,
            default=self._no_route,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with its id and the headers that every answer has, and log it."""
        if scope["type"] == "lifespan":  # of servers other than ours, such as Ray Serve's
            await self._router(scope, receive, send)
            return
        headers = dict(scope["headers"])
        call = self._access.new_call(
            request_id=headers.get(b"x-request-id", b"").decode("latin-1"),
            traceparent=headers.get(b"traceparent", b"").decode("latin-1"),
            deadline_s=self._service.limits.deadline_s,
        )
        scope["app"] = self  # asks the router for an exception where a method is wrong
        scope["truecopy.call"] = call
        status = 0

        async def send_on(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers_for(call)]
            await send(message)

        try:
            await self._router(scope, receive, send_on)
        except HTTPException as error:
            await self._wrong_method(error, scope)(scope, receive, send_on)
        finally:
            seconds = time.monotonic() - call.started
            self._service.metrics.add_request("http", str(status), seconds)
            self._log.write("http", scope["method"], scope["path"], status, call, seconds)

    def _route(self, path: str, handler: Handler, method: str) -> Route:
        needs_token = not path.startswith(_OPEN_PATHS) and path not in {"/", "/docs"}

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            call: RequestContext = scope["truecopy.call"]
            try:
                if needs_token:
                    self._access.check(request.headers.get("authorization", ""))
                response = await handler(request, call)
            except TruecopyError as error:
                response = self._error(error, call)
            except Exception as error:  # a fault of ours: the server goes on, the log has the traceback
                self._log.write_fault(error, call)
                message = f"server: internal error, request id {call.request_id}. See its log."
                response = encode_json({"error": message}, 500)
            await response(scope, receive, send)

        return Route(path, _Application(answer), methods=[method])

    def _error(self, error: TruecopyError, call: RequestContext) -> Response:
        self._service.metrics.add_rejection(type(error).__name__)
        status = status_of(error)
        headers = {}
        if isinstance(error, errors.QueueFullError):
            headers["retry-after"] = str(max(1, round(error.retry_after_s)))
        if isinstance(error, errors.StoppingError):
            headers["retry-after"] = "1"
        if isinstance(error, errors.TokenError):
            headers["www-authenticate"] = "Bearer"
        call.outcome = str(error)
        return encode_json({"error": str(error)}, status, headers)

    async def _no_route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a path that no route has, in the shape of every other error."""
        path = scope["path"][:200]
        error = errors.NotFoundError(f"'{path}': no such path: '/docs' lists them. Check the address.")
        await self._error(error, scope["truecopy.call"])(scope, receive, send)

    def _wrong_method(self, raised: HTTPException, scope: Scope) -> Response:
        """Return the answer for a method that a path does not have, in the shape of every other error."""
        allowed = (raised.headers or {}).get("Allow", "")
        path, method = scope["path"][:200], scope["method"]
        error = errors.MethodError(f"'{path}': wrong method: expected {allowed}, got {method}. Use that one.")
        answer = self._error(error, scope["truecopy.call"])
        answer.headers["allow"] = allowed
        return answer

    def _headers_for(self, call: RequestContext) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", call.request_id.encode()), _NO_SNIFFING]
        if call.traceparent:
            headers.append((b"traceparent", call.traceparent.encode()))
        if self.stopping:
            headers.append((b"connection", b"close"))
        return headers

    # The page and its documents.

    async def _index(self, _request: Request, _call: RequestContext) -> Response:
        return self._file("index.html")

    async def _docs(self, _request: Request, _call: RequestContext) -> Response:
        return self._file("docs.html")

    async def _page_file(self, request: Request, _call: RequestContext) -> Response:
        return self._file(request.path_params["file"])

    def _file(self, name: str) -> Response:
        if name not in self._page:
            raise errors.NotFoundError(f"'/page/{name[:200]}': no such file. Open '/'.")
        return Response(self._page[name], headers={"content-type": _PAGE_FILES[name], **_PAGE_HEADERS})

    async def _openapi(self, _request: Request, _call: RequestContext) -> Response:
        return encode_json(build_openapi(self._service.models, with_token=self._access.wanted))

    async def _metrics(self, _request: Request, _call: RequestContext) -> Response:
        return Response(self._service.text_of_metrics(), headers={"content-type": CONTENT_TYPE})

    # People's way.

    async def _predict(self, request: Request, call: RequestContext) -> Response:
        loaded = self._service.find(request.path_params["model"])
        take_timeout(request, call)
        self._service.check_admission(call)
        with self._service.hold() as hold:
            body = await self._read(request, hold)
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            query = request.query_params if request.scope["query_string"] else {}
            options: dict[str, Any] = {name: query[name] for name in ("top_k", "threshold") if name in query}
            many = False
            if kind == "application/json":
                sources, many, parsed = await self._service.convert(
                    len(body), lambda: sources_from_json(body, loaded.manifest)
                )
                given = {"top_k": parsed.top_k, "threshold": parsed.threshold}
                options |= {name: value for name, value in given.items() if value is not msgspec.UNSET}
            elif kind == "multipart/form-data":
                sources, fields = await sources_from_multipart(request, body, self._service.limits.queue)
                options |= {name: fields[name] for name in ("top_k", "threshold") if name in fields}
                sources = sources_from_files(sources, loaded.manifest)
                many = len(sources) > 1
            else:
                sources = [InputSource(name=BODY, value=source_from_body(body, kind, loaded.manifest))]
            if not sources:
                raise InputError("body: no inputs: expected at least one, got none. Send one.")
            top_k = whole_number(str(options["top_k"]), "top_k") if "top_k" in options else 5
            threshold = number(options["threshold"], "threshold") if "threshold" in options else None
            predicting = self._service.predict(loaded, sources, call, top_k=top_k or 0, threshold=threshold)
            done = await self._service.cancel_on_disconnect(predicting, _left(request), call)
            first = done.results[0]
            if not many and isinstance(first, Failure):
                raise InputError(first.error)
            accepted = request.headers.get("accept-encoding", "")

            def encode() -> tuple[bytes, str]:
                rows = [result.to_dict() for result in done.results]
                return compress(encoder.encode({"model": done.model, "predictions": rows}), accepted)

            headers = {"content-type": "application/json", "server-timing": timing(done.seconds, call)}
            return packed(headers, *await self._service.convert(size_of_results(done.results), encode))

    # The Open Inference Protocol.

    async def _live(self, _request: Request, _call: RequestContext) -> Response:
        return encode_json({"live": True})

    async def _ready(self, _request: Request, _call: RequestContext) -> Response:
        return encode_json({"ready": self._service.ready}, 200 if self._service.ready else 503)

    async def _server_metadata(self, _request: Request, _call: RequestContext) -> Response:
        return encode_json({"name": "truecopy", "version": server_version(), "extensions": EXTENSIONS})

    async def _models(self, _request: Request, _call: RequestContext) -> Response:
        return encode_json({"models": list(self._service.models)})

    async def _index_of_models(self, _request: Request, _call: RequestContext) -> Response:
        state = "READY" if self._service.ready else "UNAVAILABLE"
        return encode_json(
            [{"name": name, "version": VERSION, "state": state, "reason": ""} for name in self._service.models]
        )

    async def _model_metadata(self, request: Request, _call: RequestContext) -> Response:
        loaded = self._find(request)
        return encode_json(
            {
                "name": loaded.name,
                "versions": [VERSION],
                "platform": PLATFORM,
                "inputs": [spec_to_json(spec) for spec in input_specs(loaded.manifest)],
                "outputs": [spec_to_json(spec) for spec in output_specs(loaded.manifest)],
                "parameters": {"kind": kind_of(loaded.manifest), "task": task_of(loaded.manifest)},
            }
        )

    async def _model_ready(self, request: Request, _call: RequestContext) -> Response:
        loaded = self._find(request)
        return encode_json({"name": loaded.name, "ready": self._service.ready}, 200 if self._service.ready else 503)

    async def _model_config(self, request: Request, _call: RequestContext) -> Response:
        loaded = self._find(request)
        return encode_json(model_config(loaded.name, loaded.manifest))

    async def _statistics(self, request: Request, _call: RequestContext) -> Response:
        names = [self._find(request).name] if "model" in request.path_params else list(self._service.models)
        return encode_json({"model_stats": [self._service.statistics[name].to_dict(name, VERSION) for name in names]})

    async def _infer(self, request: Request, call: RequestContext) -> Response:
        loaded = self._find(request)
        take_timeout(request, call)
        self._service.check_admission(call)
        with self._service.hold() as hold:
            body = await self._read(request, hold)
            header_length = whole_number(request.headers.get(_HEADER_LENGTH), _HEADER_LENGTH)
            inputs = input_specs(loaded.manifest)
            if header_length == 0 and (len(inputs) != 1 or inputs[0].name not in encoded_inputs(loaded.manifest)):
                raise InputError(
                    f"{_HEADER_LENGTH}: 0 is for models that take one encoded input, '{loaded.name}' does not. "
                    "Send the protocol's JSON."
                )
            parsed = await self._service.convert(
                len(body) if header_length is None else header_length,
                lambda: request_from_body(
                    body,
                    header_length,
                    model=loaded.name,
                    version=request.path_params.get("version", ""),
                    base64_inputs=encoded_inputs(loaded.manifest),
                    raw_input=inputs[0].name,
                ),
            )
            answer, seconds = await self._service.cancel_on_disconnect(
                self._service.infer(parsed, call), _left(request), call
            )
            accepted = request.headers.get("accept-encoding", "")

            def encode() -> tuple[bytes, str, int | None]:
                encoded, length = response_to_body(answer)
                return (*compress(encoded, accepted), length)

            answered, encoding, length = await self._service.convert(size_bytes(answer.outputs), encode)
            headers = {"content-type": "application/json", "server-timing": timing(seconds, call)}
            if length is not None:
                headers |= {"content-type": "application/octet-stream", _HEADER_LENGTH.lower(): str(length)}
            return packed(headers, answered, encoding)

    def _find(self, request: Request) -> ServedModel:
        return self._service.find(request.path_params["model"], request.path_params.get("version", ""))

    async def _read(self, request: Request, hold: Any) -> bytes:
        admission = self._service.admission
        call: RequestContext = request.scope["truecopy.call"]
        body = await self._service.within_deadline(read_body(request, admission, hold), call)
        encoding = request.headers.get("content-encoding", "").strip().lower()
        if encoding in {"", "identity"}:
            return body
        unpacked = await self._service.convert(len(body) * 16, lambda: unpack(body, encoding, admission))
        hold.extend(len(unpacked))
        return unpacked


async def _left(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
