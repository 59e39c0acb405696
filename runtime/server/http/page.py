"""HTML page, with its security headers."""

from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from runtime.server.context import RequestContext
from runtime.server.errors import NotFoundError

_MEDIA_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "docs.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-cache",
}


class PageEndpoints:
    """The files of the page, read once."""

    def __init__(self) -> None:
        folder = resources.files("runtime.server") / "page"
        self._contents = {name: (folder / name).read_bytes() for name in _MEDIA_TYPES}

    async def index(self, _request: Request, _context: RequestContext) -> Response:
        """Return the page that runs a model on a dropped file."""
        return self._response("index.html")

    async def docs(self, _request: Request, _context: RequestContext) -> Response:
        """Return the page that shows the OpenAPI document."""
        return self._response("docs.html")

    async def file(self, request: Request, _context: RequestContext) -> Response:
        """Return a file that one of the pages loads."""
        return self._response(request.path_params["file"])

    def _response(self, name: str) -> Response:
        if name not in self._contents:
            raise NotFoundError(f"'/page/{name[:200]}': no such file. Open '/'.")
        return Response(self._contents[name], headers={"content-type": _MEDIA_TYPES[name], **_HEADERS})
