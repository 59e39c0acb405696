"""Cross-origin requests (CORS), and the path prefix of a proxy."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from msgspec.json import encode

from runtime.errors import InputError
from runtime.server.errors import bounded

App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

ANY_ORIGIN = "*"

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")

_SLASHES = re.compile("/{2,}")
DOCS_WITH_SLASH = "/docs/"

_NAME_CHARACTERS = 200

# Headers of responses that a page may read beside those that it always may.
_EXPOSED = ("server-timing", "x-request-id", "retry-after", "traceparent", "inference-header-content-length")


def check_origins(origins: Sequence[str]) -> None:
    """Raise InputError for an origin that no browser sends, such as one with a path."""
    for origin in origins:
        if origin != ANY_ORIGIN and not _ORIGIN.fullmatch(origin):
            raise InputError(
                f"--cors-origin '{origin}': not an origin: expected such as 'https://example.com' or "
                f"'http://localhost:3000', or '{ANY_ORIGIN}' for any page. Omit the path and a last '/'."
            )


def allow_origins(app: App, origins: Sequence[str]) -> App:
    """Return ``app`` with responses that pages of these origins may read, and to their preflight requests.

    Credentials of the browser, such as cookies, are never allowed: a token is a header that the page sends.
    """
    if not origins:
        return app
    from starlette.datastructures import Headers
    from starlette.middleware.cors import CORSMiddleware
    from starlette.responses import Response

    class Middleware(CORSMiddleware):
        """Starlette's, which says to a refused page's developer what is to be done."""

        def preflight_response(self, request_headers: Headers) -> Response:
            response = super().preflight_response(request_headers)
            origin = request_headers["origin"]
            if response.status_code == 400 and not self.is_allowed_origin(origin):
                response.body = encode({"error": origin_refused(origin)})
                response.headers["content-type"] = "application/json"
                response.headers["content-length"] = str(len(response.body))
            return response

    return Middleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=_EXPOSED,
    )


def origin_refused(origin: str) -> str:
    """Return what to do about a page that may not call the server."""
    origin = bounded(origin, _NAME_CHARACTERS)
    return f"Origin '{origin}': not allowed: its pages may not call this server. Start it with --cors-origin {origin}."


def check_root_path(root_path: str) -> None:
    """Raise InputError unless ``root_path`` is empty or a path such as ``/models``."""
    if not _ROOT_PATH.fullmatch(root_path):
        raise InputError(
            f"--root-path '{root_path}': not a path prefix: expected such as '/models', without a last '/'. Correct it."
        )


def canonical_path(path: str) -> str:
    """Return a path without the slashes that clients add where they join an address and a path.

    That of the documentation keeps its last one: the page's links are relative to the path without it.
    """
    if "//" in path:
        path = _SLASHES.sub("/", path)
    return path.rstrip("/") or "/" if path.endswith("/") and path != DOCS_WITH_SLASH else path


def without_prefix(path: str, root_path: str) -> str:
    """Return a request's path without the prefix that a proxy may have left on it."""
    rest = path.removeprefix(root_path)
    return rest if rest.startswith("/") else path
