"""Tensor datatypes of the Open Inference Protocol."""

import base64
import binascii
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
import numpy as np

from runtime.errors import InputError

BYTES = "BYTES"

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}

# The alphabet for URLs, and line breaks and blanks as MIME and base64(1) write them.
_TO_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")
_BLANKS = b" \t\r\n"

# How Python writes bytes and texts.
_QUOTES = ("b'", 'b"', "'", '"')

_ENCODE = "Encode the bytes of the file with base64: a path or an address is not opened."

# Decoding holds Python's lock: other threads have their turn between pieces, whose length is a multiple of four.
_PIECE_BYTES = 1024 * 1024

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor in a model's metadata: -1 is a length that a request chooses; ``also`` are other accepted forms."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    also: tuple[str, ...] = ()


def datatype_of(dtype: np.dtype[Any]) -> str:
    """Return the protocol's name of a numpy dtype; what has none, such as strings and objects, travels as BYTES."""
    return _NAMES.get(dtype.newbyteorder("="), BYTES)


def from_base64(text: str, subject: str) -> bytes:
    """Return the bytes that base64 ``text`` stands for; a leading ``data:...;base64,`` is allowed.

    Lines may be wrapped, the alphabet may be the one for URLs, the padding may be left out, and quotes may be around
    it, as Python writes bytes; a ``data:`` URL may also be percent-encoded. Raises InputError, with ``subject`` as the
    value's name, for a text that is not base64.
    """
    if text[:5].lower() == "data:":
        kind, _, text = text.partition(",")
        if not kind.lower().rstrip().endswith(";base64"):
            if len(text) > _PIECE_BYTES:  # each percent sign takes the memory of an object
                raise InputError(f"{subject}: too long for a percent-encoded URL. Encode the bytes with base64.")
            return unquote_to_bytes(text)
    if text.startswith(_QUOTES):
        text = text.removeprefix("b")[1:-1]
    try:
        # As bytes, which cost as little as they can where a long text is no base64.
        encoded = text.encode("ascii")
    except UnicodeEncodeError:
        raise InputError(f"{subject}: not base64: it has other than ASCII characters. {_ENCODE}") from None
    try:
        return _decode_pieces(encoded)
    except (binascii.Error, ValueError):
        pass  # another of its forms, or none
    try:
        _check_padding(encoded)
        starts = range(0, len(encoded), _PIECE_BYTES)
        pieces = [encoded[start : start + _PIECE_BYTES].translate(_TO_STANDARD_BASE64, _BLANKS) for start in starts]
        length = sum(map(len, pieces))
        return _decode_pieces(b"".join([*pieces, b"=" * (-length % 4)]))
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{subject}: not base64: {error}. {_ENCODE}") from None


def _decode_pieces(encoded: bytes) -> bytes:
    """Return what base64 stands for; raises ValueError where it is none."""
    _check_padding(encoded)
    length = len(encoded.rstrip(b"="))
    ends = [*range(_PIECE_BYTES, length, _PIECE_BYTES), len(encoded)]
    if any(encoded[end - 1 : end] == b"=" for end in ends[:-1]):
        raise ValueError("padding before the end")
    pieces = [base64.b64decode(encoded[start:end], validate=True) for start, end in zip([0, *ends], ends, strict=False)]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check_padding(encoded: bytes) -> None:
    """Raise ValueError for a long text that ends in nothing but padding, without going through all of it."""
    if len(encoded) > _PIECE_BYTES and encoded.endswith(b"=" * _PIECE_BYTES):
        raise ValueError("padding before the end")
