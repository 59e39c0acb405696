"""ctypes interface of the native library."""

import ctypes
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# TRUECOPY_ABI in truecopy_kernels.h.
_ABI = 2

FILTERS = {"nearest": 0, "box": 1, "bilinear": 2, "hamming": 3, "bicubic": 4, "lanczos": 5}
ARITHMETICS = {"pillow": 0, "torch": 1}
PATHS = {"auto": 0, "portable": 1, "avx2": 2, "neon": 3, "avx512": 4}

OK, _BAD_ARGUMENT, _BAD_SIZE, _NO_MEMORY, _NO_PATH, BAD_DATA = range(6)

_MAX_CHANNELS = 4


class _Request(ctypes.Structure):
    """``truecopy_resize_request`` in truecopy_kernels.h."""

    _fields_ = (
        ("source", ctypes.c_void_p),
        ("source_stride", ctypes.c_int64),
        ("source_height", ctypes.c_int64),
        ("source_width", ctypes.c_int64),
        ("part_top", ctypes.c_int64),
        ("part_left", ctypes.c_int64),
        ("part_height", ctypes.c_int64),
        ("part_width", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("target", ctypes.c_void_p),
        ("target_stride", ctypes.c_int64),
        ("resized_height", ctypes.c_int64),
        ("resized_width", ctypes.c_int64),
        ("top", ctypes.c_int64),
        ("left", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("filter", ctypes.c_int32),
        ("arithmetic", ctypes.c_int32),
        ("rows_first", ctypes.c_int32),
        ("path", ctypes.c_int32),
    )


def _load() -> ctypes.CDLL:
    name = "_kernels.dll" if sys.platform == "win32" else "_kernels.so"
    path = Path(__file__).with_name(name)
    if not path.is_file():
        raise ImportError(f"'{path}': missing: the native library was not built. Run: pip install truecopy-kernels")
    library = ctypes.CDLL(str(path))
    library.truecopy_abi.argtypes = ()
    if library.truecopy_abi() != _ABI:
        raise ImportError(
            f"'{path}': wrong version: expected {_ABI}, got {library.truecopy_abi()}. Install truecopy-kernels again."
        )
    library.truecopy_resize.argtypes = (ctypes.POINTER(_Request),)
    library.truecopy_gray.argtypes = (
        *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64),
        *(ctypes.c_void_p, ctypes.c_int64),
    )
    library.truecopy_best_path.argtypes = ()
    library.truecopy_has_path.argtypes = (ctypes.c_int,)
    return library


native = _load()


def best_path() -> str:
    """Return which instructions the library uses on this processor: ``avx512``, ``avx2``, ``neon`` or ``portable``."""
    number = native.truecopy_best_path()
    return next(name for name, path in PATHS.items() if path == number)


def available_paths() -> list[str]:
    """Return which instructions the library and this processor have, all with the same pixels."""
    return [name for name, path in PATHS.items() if native.truecopy_has_path(path)]


def resize(
    pixels: NDArray[np.uint8],
    size: tuple[int, int],
    interpolation: str,
    *,
    window: tuple[int, int, int, int] | None = None,
    rows_first: bool = False,
    arithmetic: str = "pillow",
    part_of: tuple[int, int, int, int] | None = None,
    out: NDArray[np.uint8] | None = None,
    path: str = "auto",
) -> NDArray[np.uint8]:
    """Return ``pixels`` resized to ``size`` (height, width), or only a window of that.

    ``pixels`` is uint8 [height, width, channels], of 1 to 4 channels; the pixels of a row must be next to each other,
    its rows may have any stride. ``window`` is (top, left, height, width) in the resized image. ``rows_first`` says
    that the vertical pass comes first: Pillow 13 does so where a resize removes rows, and more than twice as many as
    columns. ``arithmetic`` is ``pillow``, or ``torch`` for its antialiased resize of uint8 tensors (bilinear and
    bicubic). ``part_of`` is (height, width, top, left): ``pixels`` are the part, from (top, left) on, of an image of
    that height and width, and hold all that the window is computed from. ``out`` receives the result, uint8 [height,
    width, channels] of the window. Raises ValueError for what no image has, and MemoryError.
    """
    check_pixels(pixels, "pixels")
    height, width, channels = pixels.shape
    whole_height, whole_width, part_top, part_left = part_of or (height, width, 0, 0)
    top, left, rows, columns = window or (0, 0, *size)
    if out is None:
        if min(rows, columns) < 1 or rows > size[0] or columns > size[1]:
            raise ValueError(f"window: outside the image: expected one inside {list(size)}, got {window}.")
        out = np.empty((rows, columns, channels), np.uint8)
    else:
        check_pixels(out, "out")
        if out.shape != (rows, columns, channels) or not out.flags.writeable:
            raise ValueError(
                f"out: wrong array: expected a writable one of {[rows, columns, channels]}, got {list(out.shape)}."
            )
    request = _Request(
        pixels.ctypes.data,
        *(pixels.strides[0], whole_height, whole_width, part_top, part_left, height, width, channels),
        out.ctypes.data,
        *(out.strides[0], size[0], size[1], top, left, rows, columns),
        *(FILTERS[interpolation], ARITHMETICS[arithmetic], rows_first, PATHS[path]),
    )
    status = native.truecopy_resize(ctypes.byref(request))
    if status != OK:
        part = f", part of {part_of}" if part_of else ""
        fail(status, f"from {list(pixels.shape)}{part} to {list(size)}, window {window}, {interpolation}, {path}")
    return out


def to_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGB pixels, uint8 [height, width, 3], as Pillow's ``convert("L")`` does: uint8 [height, width, 1]."""
    check_pixels(pixels, "pixels")
    height, width, channels = pixels.shape
    gray = np.empty((height, width, 1), np.uint8)
    status = native.truecopy_gray(
        pixels.ctypes.data, pixels.strides[0], height, width, channels, gray.ctypes.data, gray.strides[0]
    )
    if status != OK:
        fail(status, f"gray of {list(pixels.shape)}")
    return gray


def check_pixels(pixels: NDArray[np.uint8], name: str) -> None:
    """Raise ValueError for an array that the native functions cannot take."""
    packed = pixels.ndim == 3 and 0 not in pixels.shape and 1 <= pixels.shape[2] <= _MAX_CHANNELS
    packed = packed and (pixels.shape[2] == 1 or pixels.strides[2] == 1)
    packed = packed and (pixels.shape[1] == 1 or pixels.strides[1] == pixels.shape[2])
    if pixels.dtype != np.uint8 or not packed:
        raise ValueError(
            f"{name}: wrong array: expected uint8 [height, width, 1 to 4 channels] with the pixels of a row next to "
            f"each other, got {pixels.dtype} {list(pixels.shape)} with strides {list(pixels.strides)}."
        )


def fail(status: int, call: str) -> None:
    """Raise the error of a call that did not return OK."""
    if status == _NO_MEMORY:
        raise MemoryError(call)
    problems = {
        _BAD_ARGUMENT: "a filter, a window or a number that this call does not have",
        _BAD_SIZE: "a size or a stride out of range",
        _NO_PATH: "instructions that this processor does not have",
    }
    raise ValueError(f"{call}: {problems.get(status, f'unknown status {status}')}.")
