"""HTTP request bodies, read and decompressed within their limits."""

import zlib
from io import BytesIO

from starlette.requests import Request

from runtime.errors import InputError
from runtime.server.admission import Admission, BodyReservation
from runtime.server.context import RequestContext
from runtime.server.errors import ClientLeftError, MediaTypeError, TooLargeError
from runtime.server.http.headers import header
from runtime.server.numbers import whole_number
from runtime.server.service import Service

# Bodies are written to a BytesIO, which hands out its bytes as they are: joining 32 MB of pieces would take as much
# memory again, and Python's lock for 10 ms or more, in which no health check is read.

# How much larger than its compressed body a typical request is, to decide where it is decompressed.
_TYPICAL_RATIO = 16

# A gzip body may be several streams, one after the other, each of which costs the set-up of a decompressor.
_MOST_STREAMS = 4096

# How much is decompressed at a time: what stands behind a stream's end is copied once more for the next one.
_PIECE_BYTES = 64 * 1024


async def read_body(request: Request, reservation: BodyReservation, service: Service, context: RequestContext) -> bytes:
    """Return the request's body, decompressed, its bytes reserved as they arrive and as they are unpacked.

    Raises DeadlineError when it does not arrive in time, and what ``_receive`` and ``decompress`` raise.
    """
    admission = service.admission
    body = await service.within_deadline(_receive(request, reservation, admission), context)
    encoding = (header(request.scope, b"content-encoding") or "").strip().lower()
    if encoding in {"", "identity"}:
        return body
    return await service.decode(
        len(body) * _TYPICAL_RATIO, lambda: decompress(body, encoding, admission, reservation), "body"
    )


async def _receive(request: Request, reservation: BodyReservation, admission: Admission) -> bytes:
    """Return the body as sent.

    Raises TooLargeError from its declared length alone, where it has one, QueueFullError as its bytes arrive, and
    ClientLeftError when the client disconnects in the middle.
    """
    length = header(request.scope, b"content-length")
    declared_bytes = 0 if length is None else whole_number(length, "Content-Length", from_text=True)
    admission.check_body(declared_bytes)
    body = BytesIO()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError("request: the client disconnected before its body was complete.")
        chunk: bytes = message.get("body", b"")
        admission.check_body(reservation.size_bytes + len(chunk))
        reservation.extend(len(chunk))
        is_last = not message.get("more_body", False)
        if is_last and not body.tell():
            return chunk
        body.write(chunk)
        if is_last:
            return body.getvalue()


def decompress(body: bytes, encoding: str, admission: Admission, reservation: BodyReservation) -> bytes:
    """Return ``body`` without its Content-Encoding, every piece reserved as it is unpacked.

    Raises MediaTypeError for an encoding other than gzip and deflate, TooLargeError for a result above the limit of a
    body, QueueFullError above that of all requests, InputError for a damaged stream.
    """
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise MediaTypeError(
            f"Content-Encoding: not supported: expected 'gzip', 'deflate' or none, got {encoding[:40]!r}. "
            "Use one of these."
        )
    unpacked = BytesIO()
    size_bytes = position = streams = 0
    try:
        while position < len(body):
            streams += 1
            if streams > _MOST_STREAMS:
                raise TooLargeError(
                    f"body: too many {encoding} streams: expected at most {_MOST_STREAMS}, one after the other, got "
                    "more. Compress it as one."
                )
            # 32 more than the window's 15 bits: gzip's or zlib's header, whichever is there.
            stream = zlib.decompressobj(wbits=47)
            while not stream.eof:
                piece = stream.unconsumed_tail or body[position : position + _PIECE_BYTES]
                if not piece:
                    raise InputError(f"body: cut short: its {encoding} stream does not end. Send all of it.")
                if not stream.unconsumed_tail:
                    position += len(piece)
                part = stream.decompress(piece, _PIECE_BYTES)
                size_bytes += len(part)
                admission.check_body(size_bytes)
                reservation.extend(len(part))
                unpacked.write(part)
            position -= len(stream.unused_data)
    except zlib.error as error:
        raise InputError(f"body: not {encoding}: {error}. Send it without Content-Encoding.") from None
    return unpacked.getvalue()
