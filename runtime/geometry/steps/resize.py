"""Resize on the host, as Pillow, torch or OpenCV does it."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.geometry.antialias import resample_array
from runtime.geometry.arrays import Pixels
from runtime.geometry.images import from_array, to_array
from runtime.geometry.pillow import resize_image
from runtime.geometry.plain import sample
from runtime.geometry.sizes import PreparedShape, kept_span, resized_size
from runtime.geometry.steps import center_crop
from runtime.manifest import CenterCrop, Resize


def shape_after(shape: PreparedShape, step: Resize) -> PreparedShape:
    """Return the shape of resized pixels; only an exact size is the same for all images."""
    return PreparedShape(size=step.size if isinstance(step.size, tuple) else None, channels=shape.channels)


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
