"""JSON arrays of the Open Inference Protocol, read into tensors within bounded time and memory."""

import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.server.open_inference.tensors import (
    BF16,
    BYTES,
    DTYPES,
    amount_error,
    check_datatype,
    count_elements,
    from_values,
    to_numbers,
)

# JSON is parsed under Python's lock, into a Python object per value: longer arrays of numbers are read in pieces of
# this size, a millisecond each, between which the event loop can run.
_PIECE_BYTES = 64 * 1024

_NESTED = re.compile(rb"\s*\[\s*\[")

_FLAT = re.compile(rb"\s*\[")

# What numbers, true, false and null consist of, and the space between them; brackets and commas are left.
_VALUES = b"0123456789+-.eE \t\r\ntruefalsn"

_decoders: dict[str, msgspec.json.Decoder[list[Any]]] = {
    "b": msgspec.json.Decoder(list[bool]),
    "i": msgspec.json.Decoder(list[int]),
    "u": msgspec.json.Decoder(list[int]),
    "f": msgspec.json.Decoder(list[float]),
}


def from_json(data: bytes, datatype: str, shape: Sequence[int], subject: str, *, is_base64: bool) -> NDArray[Any]:
    """Return the tensor that a JSON array holds, flat or nested; ``is_base64`` says how strings carry bytes.

    Raises InputError for values that are not of the datatype and the shape.
    """
    check_datatype(datatype, subject)
    count = count_elements(shape, subject)
    if datatype == BF16:
        raise InputError(f"{subject}: BF16 has no JSON form. Send it as binary data, or send FP32.")
    if datatype != BYTES and len(data) > _PIECE_BYTES:
        return _read_numbers(data, datatype, shape, subject)
    values = _decode(data, subject)
    if not isinstance(values, list):
        raise InputError(f"{subject}: wrong data: expected an array, got {type(values).__name__}. Put it in brackets.")
    return from_values(values, datatype, shape, subject, is_base64=is_base64, count=count)


def _read_numbers(data: bytes, datatype: str, shape: Sequence[int], subject: str) -> NDArray[Any]:
    """Return the tensor of a long array of numbers, which is valid JSON, cut at commas."""
    count = math.prod(shape)
    if count > len(data):
        raise amount_error(f"at most {len(data)}", count, shape, subject)
    if _NESTED.match(data):
        _check_nesting(data, shape, subject)
        data = b"[" + data.translate(None, b"[]") + b"]"
    elif not _FLAT.match(data):
        raise InputError(f"{subject}: wrong data: expected an array, got something else. Put it in brackets.")
    array = np.empty(count, DTYPES[datatype])
    filled, start, end = 0, data.index(b"[") + 1, data.rindex(b"]")
    while start < end:
        cut = data.find(b",", min(start + _PIECE_BYTES, end), end)
        cut = end if cut < 0 else cut
        piece = _read_piece(b"[" + data[start:cut] + b"]", datatype, subject)
        if filled + len(piece) > count:
            raise amount_error(f"{filled + len(piece)} or more", count, shape, subject)
        array[filled : filled + len(piece)] = piece
        filled += len(piece)
        start = cut + 1
    if filled != count:
        raise amount_error(filled, count, shape, subject)
    return array.reshape(shape)


def _read_piece(piece: bytes, datatype: str, subject: str) -> NDArray[Any]:
    """Return a flat array of numbers."""
    dtype = DTYPES[datatype]
    try:
        values = _decoders[dtype.kind].decode(piece)
    except msgspec.DecodeError:  # the same values without their types, for the reason
        values = _decode(piece, subject)
        return from_values(values, datatype, [len(values)], subject, is_base64=False, count=len(values))
    return to_numbers(values, dtype, subject, datatype)


def _check_nesting(data: bytes, shape: Sequence[int], subject: str) -> None:
    """Raise InputError unless brackets and commas are those of an array of this shape."""
    size = 0
    for length in reversed(shape):
        size = length * size + max(length - 1, 0) + 2
    expected = b""
    if size <= len(data):
        for length in reversed(shape):
            expected = b"[" + ((expected + b",") * length)[:-1] + b"]"
    if data.translate(None, _VALUES) != expected:
        raise InputError(
            f"{subject}: nested data is not of its shape: expected plain values nested as {list(shape)}. Send the "
            "array's own shape, or flat data."
        )


def _decode(data: bytes, subject: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"{subject}: 'data' is not JSON: {error}. Send an array of values.") from None
