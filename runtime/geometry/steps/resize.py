"""Resize on the host, as Pillow, torch or OpenCV does it."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.geometry.antialias import resample_array
from runtime.geometry.arrays import Pixels
from runtime.geometry.filters import SUPPORT
from runtime.geometry.images import from_array, to_array
from runtime.geometry.pillow import resize_image
from runtime.geometry.plain import sample
from runtime.geometry.sizes import PreparedShape, kept_span, resized_size, unbounded_size, vertical_first
from runtime.geometry.steps import center_crop
from runtime.manifest import CenterCrop, Resize

# The bytes of a filter's weight, and of a value that is mixed of two pixels.
_WEIGHT_ITEMSIZE = 8
_MIXED_ITEMSIZE = 4


def shape_after(shape: PreparedShape, step: Resize) -> PreparedShape:
    """Return the shape of resized pixels; only an exact size is the same for all images."""
    return PreparedShape(size=step.size if isinstance(step.size, tuple) else None, channels=shape.channels)


def measure(shape: PreparedShape, step: Resize) -> tuple[PreparedShape, int]:
    """Return the shape of a resized image, and the largest of the pixels, those between the passes and the weights."""
    assert shape.size is not None, "the size of an image is known"
    (height, width), (new_height, new_width) = shape.size, resized_size(*shape.size, step)
    after = PreparedShape(size=(new_height, new_width), channels=shape.channels)
    if step.implementation == "pillow":
        rows_first = vertical_first(height, width, (new_height, new_width), step)
    else:
        rows_first = step.implementation == "opencv"
    between = new_height * width if rows_first else height * new_width
    pixels = 0 if isinstance(step.size, tuple) else after.values * (1 if step.antialias else _MIXED_ITEMSIZE)
    reach = SUPPORT.get(step.interpolation, 0) if step.antialias else 1
    weights = _WEIGHT_ITEMSIZE * int(2 * reach + 1) * max(height, width, new_height, new_width)
    return after, max(pixels, between * shape.channels, weights)


def loses_side(shape: PreparedShape, step: Resize) -> bool:
    """Return whether a side would be 0, where torchvision, timm and transformers fail."""
    assert shape.size is not None, "the size of an image is known"
    return min(unbounded_size(*shape.size, step)) < 1


def run_on_image(image: Image.Image, step: Resize, crop: CenterCrop | None = None) -> Image.Image:
    """Return an image resized and, by a crop that follows at once, cropped: what is dropped is not computed."""
    if step.implementation == "pillow":
        return resize_image(image, step, resized_size(image.height, image.width, step), crop)
    return from_array(_resize(to_array(image).astype(np.uint8, copy=False), step, crop))


def run_on_array(pixels: Pixels, step: Resize, crop: CenterCrop | None = None) -> NDArray[np.uint8]:
    """Return resized pixels, uint8 [height, width, channels]; the exporter folds no other resize of arrays in.

    Of a crop that follows at once, what it drops is not computed.
    """
    return _resize(pixels.astype(np.uint8, copy=False), step, crop)


def mask_step(step: Resize, _ignored: int) -> Resize:
    """Return the resize to the nearest pixel: classes cannot be mixed."""
    return msgspec.structs.replace(step, interpolation="nearest", implementation="pillow", antialias=True)


def _resize(pixels: NDArray[np.uint8], step: Resize, crop: CenterCrop | None) -> NDArray[np.uint8]:
    resized = resized_size(pixels.shape[0], pixels.shape[1], step)
    fits = crop is not None and crop.height <= resized[0] and crop.width <= resized[1]
    spans = [(0, length) for length in resized]
    if crop is not None and fits:
        lengths = (crop.height, crop.width)
        spans = [kept_span(resized[axis], lengths[axis], crop.rounding) for axis in (0, 1)]
    if step.antialias:
        for axis in (1, 0):
            start, end = spans[axis]
            pixels = resample_array(
                pixels, step.interpolation, axis=axis, resized=resized[axis], start=start, length=end - start
            )
    else:
        pixels = sample(pixels, step, resized=resized, window=(slice(*spans[0]), slice(*spans[1])))
    if crop is None or fits:
        return pixels
    cropped: Any = center_crop.run_on_array(pixels, crop)
    return cropped  # type: ignore[no-any-return]  # a crop keeps the type
