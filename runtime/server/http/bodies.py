"""HTTP request bodies, read and decompressed within their limits."""

import zlib

from starlette.requests import ClientDisconnect, Request

from runtime.errors import InputError
from runtime.server.admission import Admission, BodyReservation
from runtime.server.context import RequestContext
from runtime.server.errors import ClientLeftError, MediaTypeError
from runtime.server.numbers import whole_number
from runtime.server.service import Service

# How much larger than its compressed body a typical request is, to decide where it is decompressed.
_TYPICAL_RATIO = 16


async def read_body(request: Request, reservation: BodyReservation, service: Service, context: RequestContext) -> bytes:
    """Return the request's body, decompressed, its bytes reserved before they arrive.

    Raises DeadlineError when it does not arrive in time, and what ``_receive`` and ``decompress`` raise.
    """
    admission = service.admission
    body = await service.within_deadline(_receive(request, reservation, admission), context)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return body
    decompressed = await service.convert(len(body) * _TYPICAL_RATIO, lambda: decompress(body, encoding, admission))
    reservation.extend(len(decompressed))
    return decompressed


async def _receive(request: Request, reservation: BodyReservation, admission: Admission) -> bytes:
    """Return the body as sent.

    Raises TooLargeError and QueueFullError from its declared length alone, where it has one, and ClientLeftError when
    the client disconnects in the middle.
    """
    header = request.headers.get("content-length")
    declared_bytes = 0 if header is None else whole_number(header, "Content-Length", from_text=True)
    admission.check_body(declared_bytes)
    reservation.extend(declared_bytes)
    chunks: list[bytes] = []
    size_bytes = 0
    try:
        async for chunk in request.stream():
            size_bytes += len(chunk)
            admission.check_body(size_bytes)
            if size_bytes > reservation.size_bytes:
                reservation.extend(size_bytes - reservation.size_bytes)
            chunks.append(chunk)
    except ClientDisconnect:
        raise ClientLeftError("request: the client disconnected before its body was complete.") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def decompress(body: bytes, encoding: str, admission: Admission) -> bytes:
    """Return ``body`` without its Content-Encoding.

    Raises MediaTypeError for an encoding other than gzip and deflate, TooLargeError for a result above the limit of a
    body, InputError for a damaged stream.
    """
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise MediaTypeError(
            f"Content-Encoding: not supported: expected 'gzip', 'deflate' or none, got {encoding[:40]!r}. "
            "Use one of these."
        )
    limit_bytes = admission.limits.body_bytes
    parts: list[bytes] = []
    size_bytes = 0
    try:
        while body:
            # 32 more than the window's 15 bits: gzip's or zlib's header, whichever is there.
            stream = zlib.decompressobj(wbits=47)
            part = stream.decompress(body, limit_bytes + 1 - size_bytes)
            size_bytes += len(part)
            admission.check_body(size_bytes)
            if not stream.eof:
                raise InputError(f"body: cut short: its {encoding} stream does not end. Send all of it.")
            parts.append(part)
            body = stream.unused_data
    except zlib.error as error:
        raise InputError(f"body: not {encoding}: {error}. Send it without Content-Encoding.") from None
    return b"".join(parts)
