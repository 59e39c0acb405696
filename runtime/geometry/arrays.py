"""The host's geometry on arrays: resizes of torch and OpenCV, and pixels with any number of channels, of 8 or 16 bits.

``runtime/geometry/pillow.py`` states the arithmetic of sizes and positions; nothing here goes through Pillow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.geometry.antialias import resample_array
from runtime.geometry.plain import sample
from runtime.geometry.sizes import crop_origin, resized_size
from runtime.manifest import CenterCrop, GeometryStep, Grayscale, Pad, Resize

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


def prepare_array(pixels: Pixels, steps: Sequence[GeometryStep]) -> Pixels:
    """Return the prepared pixels of a decoded array [height, width, channels], of the same type."""
    for step in steps:
        match step:
            case Resize():
                pixels = resize_array(pixels.astype(np.uint8, copy=False), step, None)
            case CenterCrop():
                pixels = crop_array(pixels, step)
            case Pad():
                pixels = pad_array(pixels, step)
            case Grayscale():
                raise AssertionError("the exporter folds Grayscale into images alone")
    prepared: Any = np.ascontiguousarray(pixels)
    return prepared  # type: ignore[no-any-return]  # each step keeps the type


def resize_array(pixels: NDArray[np.uint8], step: Resize, crop: CenterCrop | None) -> NDArray[np.uint8]:
    """Resize uint8 [height, width, channels] as torch or OpenCV does, and crop; what is dropped is not computed."""
    size = resized_size(pixels.shape[0], pixels.shape[1], step)
    fits = crop is not None and crop.height <= size[0] and crop.width <= size[1]
    spans = [(0, length) for length in size]
    if crop is not None and fits:
        wanted = (crop.height, crop.width)
        starts = [crop_origin(size[axis], wanted[axis], crop.rounding) for axis in (0, 1)]
        spans = [(starts[axis], starts[axis] + wanted[axis]) for axis in (0, 1)]
    if step.antialias:
        for axis in (1, 0):
            start, end = spans[axis]
            pixels = resample_array(
                pixels, step.interpolation, axis=axis, resized=size[axis], start=start, length=end - start
            )
    else:
        pixels = sample(pixels, step, resized=size, window=(slice(*spans[0]), slice(*spans[1])))
    return pixels if crop is None or fits else crop_array(pixels, crop)


def crop_array(pixels: NDArray[Any], step: CenterCrop) -> NDArray[Any]:
    """Return the middle of an array [height, width, channels], framed where it is smaller."""
    wanted = (step.height, step.width)
    origins = [crop_origin(pixels.shape[axis], wanted[axis], step.rounding) for axis in (0, 1)]
    frame = [
        (max(-origin, 0), max(origin + length - size, 0))
        for origin, length, size in zip(origins, wanted, pixels.shape, strict=False)
    ]
    top, left = (max(origin, 0) for origin in origins)
    inside = pixels[top : top + step.height - sum(frame[0]), left : left + step.width - sum(frame[1])]
    return _framed(inside, frame, step.fill)


def pad_array(pixels: NDArray[Any], step: Pad) -> NDArray[Any]:
    """Return an array [height, width, channels] with what ``step`` adds on each side."""
    frame = [(step.top, step.bottom), (step.left, step.right)]
    if step.mode == "constant":
        return _framed(pixels, frame, step.fill)
    return np.pad(pixels, [*frame, (0, 0)], mode=step.mode)


def _framed(pixels: NDArray[Any], frame: Sequence[tuple[int, int]], fill: Sequence[int]) -> NDArray[Any]:
    (top, bottom), (left, right) = frame
    if not any((top, bottom, left, right)):
        return pixels
    height, width, channels = pixels.shape
    framed = np.empty((height + top + bottom, width + left + right, channels), pixels.dtype)
    framed[:] = fill
    framed[top : top + height, left : left + width] = pixels
    return framed
