"""HTTP answers: how they are encoded and compressed, and what a request's options say about them."""

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from runtime.errors import InputError
from runtime.results import Failure, Result
from runtime.server.admission import RequestContext
from runtime.server.http.requests import number
from runtime.server.service import size_bytes

# Below this a compressed answer saves no packet.
_COMPRESS_FROM_BYTES = 1024

encoder = msgspec.json.Encoder()


def take_timeout(request: Request, call: RequestContext) -> None:
    """Honour the header X-Request-Timeout, in seconds; raises InputError for one that is no number above 0."""
    value = request.headers.get("x-request-timeout")
    if value is not None:
        seconds = number(value, "X-Request-Timeout")
        if not 0 < seconds < float("inf"):
            raise InputError(f"X-Request-Timeout: expected seconds above 0, got {value[:40]!r}. Correct it.")
        call.shorten(seconds)


def timing(seconds: Mapping[str, float], call: RequestContext) -> str:
    """Return the stages for the header Server-Timing, in milliseconds, and keep them for the log."""
    call.seconds = dict(seconds)
    return ", ".join(f"{stage};dur={value * 1000:.2f}" for stage, value in seconds.items())


def compress(body: bytes, accepted: str) -> tuple[bytes, str]:
    """Return the body and its encoding, compressed where the client asked for it and it is worth it."""
    if not accepted or len(body) < _COMPRESS_FROM_BYTES:
        return body, ""
    names = {
        name.strip()
        for name, _, quality in (part.partition(";") for part in accepted.split(","))
        if quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    }
    for encoding, window_bits in (("gzip", 31), ("deflate", 15)):
        if encoding in names:
            packer = zlib.compressobj(1, wbits=window_bits)
            return packer.compress(body) + packer.flush(), encoding
    return body, ""


def packed(headers: dict[str, str], body: bytes, encoding: str) -> Response:
    """Return the answer for a body that ``compress`` made."""
    more = {"content-encoding": encoding, "vary": "accept-encoding"} if encoding else {}
    return Response(body, headers=headers | more)


def size_of_results(results: list[Result]) -> int:
    """Return about how many bytes of arrays results hold; those of classes and numbers hold none."""
    arrays = (getattr(result, name) for result in results for name in ("outputs", "label_map") if _has(result, name))
    return sum(map(size_bytes, arrays))


def _has(result: Result, name: str) -> bool:
    return not isinstance(result, Failure) and hasattr(result, name)


def encode_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return ``value`` as a JSON answer."""
    return Response(encoder.encode(value), status, {"content-type": "application/json", **(headers or {})})
