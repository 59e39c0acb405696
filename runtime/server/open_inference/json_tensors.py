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

_NESTED = re.compile(rb"[ \t\r\n]{0,64}\[[ \t\r\n]{0,64}\[")

_BLANKS = b" \t\r\n"
_STRUCTURE = b"[],"

# What stands for a value where only the structure matters, and blanks for the brackets where only the values do.
_VALUE = b"v"
_TO_STRUCTURE = bytes(byte if byte in _STRUCTURE else _VALUE[0] for byte in range(256))
_TO_VALUES = bytes.maketrans(b"[]", b"  ")

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
    if len(data) > _PIECE_BYTES:
        if datatype != BYTES:
            return _read_numbers(data, datatype, shape, subject)
        if b'"' not in data:
            raise InputError(f"{subject}: wrong values: expected strings for BYTES, got other values. Convert them.")
    values = _decode(data, subject)
    if not isinstance(values, list):
        raise InputError(f"{subject}: wrong data: expected an array, got {type(values).__name__}. Put it in brackets.")
    return from_values(values, datatype, shape, subject, is_base64=is_base64, count=count)


def _read_numbers(data: bytes, datatype: str, shape: Sequence[int], subject: str) -> NDArray[Any]:
    """Return the tensor of a long array of numbers, cut at commas; the pieces are parsed, the brackets compared."""
    count = math.prod(shape)
    if count > len(data):
        raise amount_error(f"at most {len(data)}", count, shape, subject)
    start, end = data.find(b"["), data.rfind(b"]")
    if not 0 <= start < end or data[:start].strip(_BLANKS) or data[end + 1 :].strip(_BLANKS):
        raise InputError(f"{subject}: wrong data: expected an array, got something else. Put it in brackets.")
    structure = _Structure(shape, len(data), subject) if _NESTED.match(data) else None
    array = np.empty(count, DTYPES[datatype])
    filled, start = 0, start + 1
    while start <= end:
        cut = data.find(b",", min(start + _PIECE_BYTES, end), end)
        cut = end if cut < 0 else cut
        text = data[start:cut]
        if len(text) > 2 * _PIECE_BYTES:
            raise InputError(f"{subject}: a value of over {_PIECE_BYTES} characters. Send numbers.")
        if structure is not None:
            structure.compare(text)
            text = text.translate(_TO_VALUES)
        piece = _read_piece(b"[" + text + b"]", datatype, subject)
        if not len(piece):
            raise InputError(f"{subject}: 'data' is not JSON: a comma without a value. Send an array of values.")
        if filled + len(piece) > count:
            raise amount_error(f"{filled + len(piece)} or more", count, shape, subject)
        array[filled : filled + len(piece)] = piece
        filled += len(piece)
        start = cut + 1
    if structure is not None:
        structure.end()
    if filled != count:
        raise amount_error(filled, count, shape, subject)
    return array.reshape(shape)


class _Structure:
    """The brackets and commas of a nested array, compared with its shape piece by piece; pieces are cut at commas."""

    def __init__(self, shape: Sequence[int], longest: int, subject: str) -> None:
        size = 0
        for length in reversed(shape):
            size = length * size + max(length - 1, 0) + 2
        expected = b""
        if size <= longest:
            for length in reversed(shape):
                expected = b"[" + ((expected + b",") * length)[:-1] + b"]"
        self._expected = expected
        self._position = 1  # the outermost brackets are no part of the pieces
        self._shape = shape
        self._subject = subject

    def compare(self, piece: bytes) -> None:
        """Raise InputError unless the piece goes on as the shape says, with values in the innermost brackets alone."""
        structure = piece.translate(_TO_STRUCTURE, _BLANKS)
        brackets = structure.translate(None, _VALUE)
        end = self._position + len(brackets)
        if b"v[" in structure or b"]v" in structure or self._expected[self._position : end] != brackets:
            raise self._wrong_shape()
        self._position = end + 1  # and the comma after it

    def end(self) -> None:
        """Raise InputError unless the pieces were the whole array."""
        if self._position != len(self._expected):
            raise self._wrong_shape()

    def _wrong_shape(self) -> InputError:
        return InputError(
            f"{self._subject}: nested data is not of its shape: expected plain values nested as {list(self._shape)}. "
            "Send the array's own shape, or flat data."
        )


def _read_piece(piece: bytes, datatype: str, subject: str) -> NDArray[Any]:
    """Return a flat array of numbers."""
    dtype = DTYPES[datatype]
    try:
        values = _decoders[dtype.kind].decode(piece)
    except msgspec.DecodeError:  # the same values without their types, for the reason
        values = _decode(piece, subject)
        return from_values(values, datatype, [len(values)], subject, is_base64=False, count=len(values))
    return to_numbers(values, dtype, subject, datatype)


def _decode(data: bytes, subject: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"{subject}: 'data' is not JSON: {error}. Send an array of values.") from None
