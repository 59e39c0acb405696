"""Decoding of a JPEG's window by the libjpeg that another library has loaded."""

import ctypes
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from truecopy_kernels.library import BAD_DATA, OK, check_pixels, fail, native

# The side of a block of samples.
_BLOCK = 8

_FUNCTIONS = {
    "std_error": "jpeg_std_error",
    "create": "jpeg_CreateDecompress",
    "destroy": "jpeg_destroy_decompress",
    "mem_src": "jpeg_mem_src",
    "read_header": "jpeg_read_header",
    "start": "jpeg_start_decompress",
    "crop": "jpeg_crop_scanline",
    "skip": "jpeg_skip_scanlines",
    "read": "jpeg_read_scanlines",
    "finish": "jpeg_finish_decompress",
}


class _Functions(ctypes.Structure):
    """``truecopy_libjpeg`` in truecopy_kernels.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _FUNCTIONS),
        ("version", ctypes.c_int32),
        ("state_bytes", ctypes.c_int32),
    )


class _Request(ctypes.Structure):
    """``truecopy_jpeg_request`` in truecopy_kernels.h."""

    _fields_ = (
        ("data", ctypes.c_char_p),
        ("data_bytes", ctypes.c_int64),
        ("image_height", ctypes.c_int64),
        ("image_width", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("target", ctypes.c_void_p),
        ("target_stride", ctypes.c_int64),
        ("top", ctypes.c_int64),
        ("left", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
    )


native.truecopy_jpeg_open.argtypes = (ctypes.POINTER(_Functions),)
native.truecopy_jpeg_decode.argtypes = (ctypes.POINTER(_Functions), ctypes.POINTER(_Request))


class LibJpeg:
    """The libjpeg-turbo that the library at ``path`` is linked to, such as Pillow's ``_imaging``.

    Raises ImportError where it has none of its own, or one of another kind.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        # Kept: the addresses are of what it has loaded.
        self._library = ctypes.CDLL(str(path))
        self._functions = _Functions()
        for field, name in _FUNCTIONS.items():
            try:
                address = ctypes.cast(getattr(self._library, name), ctypes.c_void_p).value
            except AttributeError:
                raise ImportError(f"'{path}': has no function {name}: its libjpeg is not shared.") from None
            setattr(self._functions, field, address)
        if native.truecopy_jpeg_open(ctypes.byref(self._functions)) != OK:
            raise ImportError(f"'{path}': its libjpeg has an unknown interface ({self._functions.version}).")

    def decode(
        self,
        data: bytes,
        size: tuple[int, int],
        channels: int,
        *,
        window: tuple[int, int, int, int],
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8] | None:
        """Return a window (top, left, height, width) of a JPEG, uint8 [height, width, channels].

        ``size`` is the (height, width) of the whole; ``channels`` is 3 for RGB, or 1 for a gray JPEG. The window must
        be one that ``decoded_window`` returns. ``out`` receives the pixels. None is returned for a JPEG that is
        damaged, or not of that size. Raises ValueError for a window that no image has.
        """
        top, left, height, width = window
        if out is None:
            out = np.empty((height, width, channels), np.uint8)
        check_pixels(out, "out")
        if out.shape != (height, width, channels) or not out.flags.writeable:
            raise ValueError(
                f"out: wrong array: expected a writable one of {[height, width, channels]}, got {list(out.shape)}."
            )
        request = _Request(data, len(data), *size, channels, out.ctypes.data, out.strides[0], top, left, height, width)
        status = native.truecopy_jpeg_decode(ctypes.byref(self._functions), ctypes.byref(request))
        if status == BAD_DATA:
            return None
        if status != OK:
            fail(status, f"window {window} of a JPEG of {list(size)} with {channels} channels")
        return out


def decoded_window(
    size: tuple[int, int], window: tuple[int, int, int, int], luma_columns: int
) -> tuple[int, int, int, int]:
    """Return the window (top, left, height, width) that has to be decoded so that ``window`` has the image's pixels.

    ``size`` is the (height, width) of the image; ``luma_columns`` is how many columns share a sample of chroma. What is
    decoded starts at a block of chroma. Between two samples chroma is computed from both, and the outermost ones lack
    a neighbor: so a column more is decoded on each side. Between few samples libjpeg computes nothing: so at least a
    block's columns are decoded.
    """
    top, left, height, width = window
    block = _BLOCK * luma_columns
    start = max(left - 1, 0) // block * block
    end = min(max(left + width + 1, start + block), size[1])
    if end - start < block:
        start = max(start - block, 0)
    return top, start, height, end - start
