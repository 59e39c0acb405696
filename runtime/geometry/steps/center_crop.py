"""Center crop on the host, of images and arrays; smaller ones are padded."""

from typing import Any

import msgspec
from PIL import Image

from runtime.geometry.arrays import Pixels, add_frame
from runtime.geometry.images import crop_window
from runtime.geometry.sizes import PreparedShape, kept_span
from runtime.manifest import CenterCrop


def shape_after(shape: PreparedShape, step: CenterCrop) -> PreparedShape:
    """Return the crop's shape, whatever the image's."""
    return PreparedShape(size=(step.height, step.width), channels=shape.channels)


def measure(shape: PreparedShape, step: CenterCrop) -> tuple[PreparedShape, int]:
    """Return the crop's shape, which no image changes."""
    return shape_after(shape, step), 0


def run_on_image(image: Image.Image, step: CenterCrop) -> Image.Image:
    """Return the middle of an image, padded where it is smaller."""
    top, bottom = kept_span(image.height, step.height, step.rounding)
    left, right = kept_span(image.width, step.width, step.rounding)
    return crop_window(image, (left, top, right, bottom), step.fill)


def run_on_array(pixels: Pixels, step: CenterCrop) -> Pixels:
    """Return the middle of pixels [height, width, channels], padded where they are fewer."""
    height, width, _ = pixels.shape
    top, bottom = kept_span(height, step.height, step.rounding)
    left, right = kept_span(width, step.width, step.rounding)
    inside = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    rows, columns = (max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0))
    framed: Any = add_frame(inside, rows, columns, step.fill)
    return framed  # type: ignore[no-any-return]  # a frame keeps the type


def mask_step(step: CenterCrop, ignored: int) -> CenterCrop:
    """Return the same crop, which pads with the class that counts for nothing."""
    return msgspec.structs.replace(step, fill=(ignored,))
