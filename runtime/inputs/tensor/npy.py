"""Files of one array, .npy, read without trusting their header."""

import io
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from runtime.errors import InputError

MAGIC = b"\x93NUMPY"

# No header of an array without named fields is as long; parsing takes longer for a longer one.
_MOST_HEADER_BYTES = 4096

# What numpy writes; a third version is for the names of fields alone.
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy(data: bytes, subject: str) -> NDArray[Any]:
    """Return the array of a file, read-only and of this machine's byte order; nothing is allocated for what it claims.

    Raises InputError for anything but an array of numbers that is whole.
    """
    stream = io.BytesIO(data[:_MOST_HEADER_BYTES])
    try:
        shape, is_fortran, dtype = _READERS[npy.read_magic(stream)](stream)
    except (KeyError, ValueError, EOFError, SyntaxError, TypeError) as error:
        raise InputError(f"{subject}: not an .npy file: {error}. Save it with numpy.save().") from None
    if dtype.hasobject or dtype.names is not None:
        raise InputError(f"{subject}: not an array of numbers: got {str(dtype)[:100]}. Save one array of numbers.")
    size_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes != len(data) - stream.tell():
        raise InputError(
            f"{subject}: not a whole array: expected {size_bytes} bytes for {list(shape)[:16]}, got "
            f"{len(data) - stream.tell()}. Save it again."
        )
    if not size_bytes:  # and perhaps countless entries
        raise InputError(f"{subject}: empty: expected numbers, got an array of shape {list(shape)[:16]}. Save others.")
    array = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if is_fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def rows_of_npy(data: bytes, subject: str, *, rank: int) -> Sequence[NDArray[Any]]:
    """Return the inputs in a file: the entries of an array of one dimension more than ``rank``, or the array itself."""
    array = read_npy(data, subject)
    # Its entries become arrays one by one: there may be more than any request may have.
    return cast("Sequence[NDArray[Any]]", array) if array.ndim == rank + 1 else [array]
