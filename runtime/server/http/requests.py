"""HTTP bodies, read within their limits: whole, unpacked, and taken apart into the inputs that they carry."""

import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from runtime.errors import InputError
from runtime.manifest import Manifest
from runtime.server.admission import Admission, BodyReservation
from runtime.server.errors import ClientLeftError, MediaTypeError
from runtime.server.payloads import source_from_json, source_from_part
from runtime.server.service import InputSource

# Decimal digits of a header that counts bytes: more than any body has.
_MOST_DIGITS = 15

# What one body is called in messages and in its row.
BODY = "body"


class _Parser(MultiPartParser):
    """Starlette's parser, which would spool large parts to a disk that may be read-only."""

    spool_max_size = 2**40


class PredictBody(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of ``POST /predict/{model}``: ``input`` or ``inputs``, each as the model's kind has it."""

    input: Any = msgspec.UNSET
    inputs: list[Any] | msgspec.UnsetType = msgspec.UNSET
    top_k: int | msgspec.UnsetType = msgspec.UNSET
    threshold: float | msgspec.UnsetType = msgspec.UNSET


_predict_decoder = msgspec.json.Decoder(PredictBody)


def whole_number(text: str | None, name: str) -> int | None:
    """Return the number in a header or query; raises InputError for anything that is no whole number."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS:
        raise InputError(f"{name}: expected a whole number, got {text[:40]!r}. Correct it.")
    return int(text)


async def read_body(request: Request, admission: Admission, hold: BodyReservation) -> bytes:
    """Return the body as sent, its bytes held before they arrive.

    Raises TooLargeError and QueueFullError from its declared length alone, where it has one, and ClientLeftError when
    the client leaves in the middle.
    """
    declared = whole_number(request.headers.get("content-length"), "Content-Length")
    admission.check_body(declared or 0)
    hold.extend(declared or 0)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            admission.check_body(size)
            if size > hold.size:
                hold.extend(size - hold.size)
            chunks.append(chunk)
    except ClientDisconnect:
        raise ClientLeftError("request: the client left before its body was whole. Nothing to do.") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def unpack(body: bytes, encoding: str, admission: Admission) -> bytes:
    """Return ``body`` without its Content-Encoding, as large as a body may be.

    Raises MediaTypeError for an encoding other than gzip and deflate, TooLargeError and InputError for bad ones.
    """
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise MediaTypeError(
            f"Content-Encoding: not taken: expected 'gzip', 'deflate' or none, got {encoding[:40]!r}. Use one of these."
        )
    limit = admission.limits.body_bytes
    unpacked: list[bytes] = []
    size = 0
    try:
        while body:
            # 32 more than the window's 15 bits: gzip's or zlib's header, whichever is there.
            stream = zlib.decompressobj(wbits=47)
            part = stream.decompress(body, limit + 1 - size)
            size += len(part)
            admission.check_body(size)
            if not stream.eof:
                raise InputError(f"body: cut short: its {encoding} stream does not end. Send all of it.")
            unpacked.append(part)
            body = stream.unused_data
    except zlib.error as error:
        raise InputError(f"body: not {encoding}: {error}. Send it without Content-Encoding.") from None
    return b"".join(unpacked)


def sources_from_json(body: bytes, manifest: Manifest) -> tuple[list[InputSource], bool, PredictBody]:
    """Return the inputs of a JSON body, whether it is a list of them, and its options."""
    try:
        parsed = _predict_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(
            f'body: not a prediction\'s JSON: {str(error).rstrip(".")}. Send {{"input": ...}} or {{"inputs": [...]}}.'
        ) from None
    if (parsed.input is msgspec.UNSET) == (parsed.inputs is msgspec.UNSET):
        raise InputError("body: expected either 'input' or 'inputs', got both or neither. Send one of them.")
    many = not isinstance(parsed.inputs, msgspec.UnsetType)
    values = parsed.inputs if not isinstance(parsed.inputs, msgspec.UnsetType) else [parsed.input]
    sources = [
        InputSource(name=f"#{position}", value=_value_or_error(source_from_json, value, manifest, f"'#{position}'"))
        for position, value in enumerate(values)
    ]
    return sources, many, parsed


def sources_from_files(parts: Sequence[InputSource], manifest: Manifest) -> list[InputSource]:
    """Return the inputs that the files of a form are."""
    return [
        InputSource(name=part.name, value=_value_or_error(source_from_part, part.value, manifest, f"'{part.name}'"))
        for part in parts
    ]


def _value_or_error(read: Callable[[Any, Manifest, str], Any], value: Any, manifest: Manifest, subject: str) -> Any:
    """Return what ``read`` makes of one input, or the error that it costs: that one alone, and not its neighbours."""
    try:
        return read(value, manifest, subject)
    except InputError as error:
        return error


async def sources_from_multipart(request: Request, body: bytes, most: int) -> tuple[list[InputSource], dict[str, str]]:
    """Return the parts of a multipart body that are inputs, and its other fields, all kept in memory."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        parser = _Parser(request.headers, stream(), max_files=most + 1, max_fields=16, max_part_size=len(body))  # type: ignore[arg-type]
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", str(error))
        raise InputError(f"body: not multipart/form-data: {reason}. Send it as a browser's form does.") from None
    sources = []
    fields: dict[str, str] = {}
    for name, part in form.multi_items():
        if isinstance(part, UploadFile):
            sources.append(InputSource(name=part.filename or name, value=await part.read()))
        else:
            fields[name] = part
    await form.close()
    return sources, fields


def number(text: Any, name: str) -> float:
    """Return the number in a query, header or field; raises InputError for anything else."""
    try:
        return float(text)
    except (TypeError, ValueError):
        raise InputError(f"{name}: expected a number, got {str(text)[:40]!r}. Correct it.") from None
