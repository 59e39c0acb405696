"""Decoder of pixels with any number of channels: .npy, TIFF and PNG files."""

import io
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import InputError
from runtime.geometry.arrays import Pixels
from runtime.inputs.image.limits import check_size, limit_bytes
from runtime.inputs.image.tiff import read_tiff
from runtime.manifest import ImageInput

_NPY_MAGIC = b"\x93NUMPY"
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC = b"\x89PNG"


def read_bands(data: bytes, spec: ImageInput, *, subject: str, max_pixels: int) -> Pixels:
    """Return the pixels in an encoded file, [height, width, channels] of the manifest's type.

    Raises InputError when it is of another kind, damaged, of another shape or type, or larger than ``max_pixels``.
    """
    check = partial(check_size, spec=spec, subject=subject, max_pixels=max_pixels)
    try:
        if data.startswith(_NPY_MAGIC):
            array = _read_npy(data, subject, limit_bytes(max_pixels))
        elif data.startswith(_TIFF_MAGICS):
            array = read_tiff(data, check, subject=subject, max_pixels=max_pixels)
        elif data.startswith(_PNG_MAGIC):
            array = _read_png(data, check)
        else:
            raise InputError(
                f"{subject}: not pixels: expected an .npy, TIFF or PNG file, got bytes that start with {data[:8]!r}. "
                "Convert it first."
            )
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damage surfaces as whatever the bytes lead a reader to do
        raise InputError(f"{subject}: damaged: {str(error).rstrip('.')}. Copy or write it again.") from error
    return check_bands(array, spec, subject=subject, max_pixels=max_pixels)


def check_bands(array: NDArray[Any], spec: ImageInput, *, subject: str, max_pixels: int) -> Pixels:
    """Return an array with its channels last; they may be first where that is unambiguous. Raises InputError."""
    channels = spec.channels
    if array.ndim == 2 and channels == 1:
        array = array[:, :, np.newaxis]
    elif array.ndim == 3 and array.shape[2] != channels and array.shape[0] == channels:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != channels or 0 in array.shape or array.dtype != spec.dtype:
        raise InputError(
            f"{subject}: wrong array: expected {spec.dtype} [height, width, {channels}], "
            f"got {array.dtype} {list(array.shape)}. Convert it, or pass a batch as a list."
        )
    check_size(array.shape[:2], spec, subject=subject, max_pixels=max_pixels)
    return np.ascontiguousarray(array)


def _read_npy(data: bytes, subject: str, max_bytes: int) -> NDArray[Any]:
    stream = io.BytesIO(data)
    major, _ = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if math.prod(shape) * dtype.itemsize > max_bytes:
        raise InputError(
            f"{subject}: too large: expected at most {max_bytes:,} bytes, got {dtype} {list(shape)}. "
            "Make it smaller, or raise the limit (max_pixels, --max-megapixels)."
        )
    if math.prod(shape) * dtype.itemsize > len(data):
        raise InputError(f"{subject}: damaged: the file ends before its values do. Copy or write it again.")
    stream.seek(0)
    array: NDArray[Any] = np.load(stream, allow_pickle=False)
    return array


def _read_png(data: bytes, check: Callable[[tuple[int, ...]], None]) -> NDArray[Any]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
        check((opened.height, opened.width))
        opened.load()
        array: NDArray[Any] = np.asarray(opened)
    return array
