"""Padding on the host, of images and arrays."""

from typing import Any

import msgspec
import numpy as np
from PIL import Image

from runtime.geometry.arrays import Pixels, add_frame
from runtime.geometry.images import fill_of, from_array, to_array
from runtime.geometry.sizes import PreparedShape
from runtime.manifest import Pad


def shape_after(shape: PreparedShape, step: Pad) -> PreparedShape:
    """Return the shape with the padding of each side."""
    if shape.size is None:
        return shape
    height, width = shape.size
    size = (height + step.top + step.bottom, width + step.left + step.right)
    return PreparedShape(size=size, channels=shape.channels)


def measure(shape: PreparedShape, step: Pad) -> tuple[PreparedShape, int]:
    """Return the shape with the padding of each side."""
    after = shape_after(shape, step)
    return after, after.values


def run_on_image(image: Image.Image, step: Pad) -> Image.Image:
    """Return an image with what ``step`` adds on each side."""
    if step.mode != "constant":
        return from_array(run_on_array(to_array(image), step))
    size = (image.width + step.left + step.right, image.height + step.top + step.bottom)
    padded = Image.new(image.mode, size, fill_of(image, step.fill))
    padded.paste(image, (step.left, step.top))
    return padded


def run_on_array(pixels: Pixels, step: Pad) -> Pixels:
    """Return pixels [height, width, channels] with what ``step`` adds on each side."""
    rows, columns = (step.top, step.bottom), (step.left, step.right)
    padded: Any = (
        add_frame(pixels, rows, columns, step.fill)
        if step.mode == "constant"
        else np.pad(pixels, [rows, columns, (0, 0)], mode=step.mode)
    )
    return padded  # type: ignore[no-any-return]  # padding keeps the type


def mask_step(step: Pad, ignored: int) -> Pad:
    """Return padding with the class that counts for nothing: what is mirrored or repeated was not labeled."""
    return msgspec.structs.replace(step, mode="constant", fill=(ignored,))
