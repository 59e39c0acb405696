"""Tensors of the Open Inference Protocol: JSON, binary data and gRPC's typed contents.

A BYTES tensor is an object array of ``bytes``; every other one has the dtype of its name. BF16, which numpy lacks, is
read into float32. Shapes are checked against the data before anything is allocated from them.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.datatypes import BYTES, DTYPES, TensorSpec, datatype_of, from_base64

__all__ = [
    "BYTES",
    "DTYPES",
    "TensorSpec",
    "amount_error",
    "check_datatype",
    "count_elements",
    "datatype_of",
    "from_bytes",
    "from_values",
    "tensor_to_json",
    "to_bytes",
    "to_numbers",
]

BF16 = "BF16"

# A length before each element of a BYTES tensor: uint32, little-endian.
_LENGTH_BYTES = 4

# NumPy before 2 takes an integer that does not fit as what is left of it.
_WRAPS = np.lib.NumpyVersion(np.__version__) < "2.0.0"

_MOST_DIMENSIONS = 16
_LONGEST = 2**63 - 1


def check_datatype(datatype: str, subject: str) -> None:
    """Raise InputError unless the protocol knows ``datatype``."""
    if datatype not in DTYPES and datatype not in {BYTES, BF16}:
        raise InputError(
            f"{subject}: unknown datatype: expected one of {', '.join(DTYPES)}, {BF16}, {BYTES}, got "
            f"'{datatype[:40]}'. Use one of these."
        )


def count_elements(shape: Sequence[int], subject: str) -> int:
    """Return how many elements ``shape`` has; raises InputError for one that no tensor has."""
    if len(shape) > _MOST_DIMENSIONS or any(not 0 <= length <= _LONGEST for length in shape):
        lengths = [length if abs(length) <= _LONGEST else "a number of too many digits" for length in shape[:20]]
        raise InputError(
            f"{subject}: wrong shape: expected up to {_MOST_DIMENSIONS} lengths from 0 to {_LONGEST}, got {lengths}. "
            "Send the array's own shape."
        )
    return math.prod(shape)


def from_bytes(data: memoryview, datatype: str, shape: Sequence[int], subject: str) -> NDArray[Any]:
    """Return the tensor that ``data`` holds in the protocol's binary form; numbers share its memory."""
    check_datatype(datatype, subject)
    count = count_elements(shape, subject)
    if datatype == BYTES:
        return _objects(_split(data, count, subject), shape)
    dtype = np.dtype("<u2") if datatype == BF16 else DTYPES[datatype].newbyteorder("<")
    if len(data) != count * dtype.itemsize:
        raise InputError(
            f"{subject}: wrong size: expected {count * dtype.itemsize} bytes for {datatype} {list(shape)}, "
            f"got {len(data)}. Send the array's own bytes."
        )
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    if datatype == BF16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    if datatype == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
        raise InputError(f"{subject}: wrong value: expected bytes 0 and 1 for BOOL, got another. Convert it.")
    return array


def to_bytes(array: NDArray[Any]) -> bytes:
    """Return the protocol's binary form of an array."""
    if datatype_of(array.dtype) == BYTES:
        parts = []
        for element in array.ravel():
            encoded = _encoded(element)
            parts += [len(encoded).to_bytes(_LENGTH_BYTES, "little"), encoded]
        return b"".join(parts)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def from_values(
    values: list[Any], datatype: str, shape: Sequence[int], subject: str, *, is_base64: bool, count: int
) -> NDArray[Any]:
    """Return the tensor of a list of Python values, flat or nested as ``shape`` says."""
    nested = bool(values) and isinstance(values[0], list)
    flat = _flatten(values, shape, subject) if nested else values
    if len(flat) != count:
        raise amount_error(len(flat), count, shape, subject)
    if datatype == BYTES:
        return _objects([_from_text(value, subject, is_base64) for value in flat], shape)
    dtype = DTYPES[datatype]
    _check_kind(flat, dtype, subject, datatype)
    return to_numbers(flat, dtype, subject, datatype).reshape(shape)


def to_numbers(values: Sequence[Any], dtype: np.dtype[Any], subject: str, datatype: str) -> NDArray[Any]:
    """Return Python's numbers as a flat array; raises InputError where one does not fit."""
    try:
        if _WRAPS and dtype.kind in "iu" and len(values):
            limits = np.iinfo(dtype)
            if min(values) < limits.min or max(values) > limits.max:
                raise OverflowError(f"expected {limits.min} to {limits.max}")
        with np.errstate(over="ignore"):
            return np.fromiter(values, dtype=dtype, count=len(values))
    except (OverflowError, ValueError, TypeError) as error:
        raise InputError(f"{subject}: a value does not fit {datatype}: {error}. Send it as another type.") from None


def tensor_to_json(array: NDArray[Any]) -> list[Any]:
    """Return the array's values as one flat list for JSON; bytes become text, or base64 where they are not UTF-8."""
    if datatype_of(array.dtype) != BYTES:
        return array.ravel().tolist()
    return [_to_text(_encoded(element)) for element in array.ravel()]


def amount_error(actual: int | str, count: int, shape: Sequence[int], subject: str) -> InputError:
    """Return the error of a tensor whose number of values is not that of its shape."""
    return InputError(
        f"{subject}: wrong amount of data: expected {count} values for shape {list(shape)}, got {actual}. "
        "Send the array's own shape."
    )


def _shape_error(subject: str, shape: Sequence[int], *, depth: int) -> InputError:
    """Return the error of nested data that is not of its shape; ``depth`` counts from 1."""
    expected = shape[depth - 1] if shape else 0
    return InputError(
        f"{subject}: nested data is not of its shape: expected {expected} values at depth {depth} of {list(shape)}. "
        "Send the array's own shape, or flat data."
    )


def _split(data: memoryview, count: int, subject: str) -> list[bytes]:
    elements: list[bytes] = []
    position = 0
    for _ in range(count):
        start = position + _LENGTH_BYTES
        length = int.from_bytes(data[position:start], "little")
        if start > len(data) or start + length > len(data):
            raise InputError(
                f"{subject}: cut short: expected {count} elements with a length of 4 bytes before each, "
                f"got {len(elements)} whole ones in {len(data)} bytes. Send all of it."
            )
        elements.append(bytes(data[start : start + length]))
        position = start + length
    if position != len(data):
        raise InputError(
            f"{subject}: too much data: expected {count} elements, got {len(data) - position} bytes after them. "
            "Send the array's own shape."
        )
    return elements


def _objects(elements: Iterable[bytes], shape: Sequence[int]) -> NDArray[Any]:
    listed = list(elements)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array.reshape(shape)


def _flatten(values: list[Any], shape: Sequence[int], subject: str) -> list[Any]:
    """Return the innermost values of nested lists; raises InputError where a level is not as long as ``shape`` says."""
    level: list[Any] = [values]
    for depth, length in enumerate(shape):
        if any(not isinstance(part, list) or len(part) != length for part in level):
            raise _shape_error(subject, shape, depth=depth + 1)
        level = list(chain.from_iterable(level))
    return level


def _check_kind(values: list[Any], dtype: np.dtype[Any], subject: str, datatype: str) -> None:
    """Raise InputError where numpy would convert silently: 1.5 to 1, true to 1, text to a number."""
    kinds: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
    allowed = kinds[dtype.kind]
    wrong = set(map(type, values)) - allowed
    if wrong:
        names = ", ".join(sorted(kind.__name__ for kind in wrong))
        raise InputError(f"{subject}: wrong values: expected {datatype}, got {names} among them. Convert them.")


def _from_text(value: Any, subject: str, is_base64: bool) -> bytes:
    if isinstance(value, bytes):  # of gRPC's typed contents
        return value
    if not isinstance(value, str):
        raise InputError(
            f"{subject}: wrong values: expected strings for BYTES, got {type(value).__name__}. Convert them."
        )
    return from_base64(value, subject) if is_base64 else value.encode("utf-8", "surrogatepass")


def _encoded(element: Any) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode()


def _to_text(element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return base64.b64encode(element).decode()
