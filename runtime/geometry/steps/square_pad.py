"""Padding to a square on the host, of images and arrays."""

import msgspec
from PIL import Image

from runtime.geometry.arrays import Pixels
from runtime.geometry.sizes import PreparedShape
from runtime.geometry.steps import pad
from runtime.manifest import Pad, SquarePad


def padding_of(step: SquarePad, height: int, width: int) -> Pad:
    """Return the padding that makes an image of a size square."""
    side = max(height, width)
    (top, bottom), (left, right) = (_halves(side - length, step) for length in (height, width))
    return Pad(left=left, top=top, right=right, bottom=bottom, mode="constant", fill=step.fill)


def shape_after(shape: PreparedShape, step: SquarePad) -> PreparedShape:
    """Return the square around the shape."""
    if shape.size is None:
        return shape
    return pad.shape_after(shape, padding_of(step, *shape.size))


def measure(shape: PreparedShape, step: SquarePad) -> tuple[PreparedShape, int]:
    """Return the square around the shape, and its values."""
    after = shape_after(shape, step)
    return after, after.values


def run_on_image(image: Image.Image, step: SquarePad) -> Image.Image:
    """Return an image in the middle of a square."""
    return pad.run_on_image(image, padding_of(step, image.height, image.width))


def run_on_array(pixels: Pixels, step: SquarePad) -> Pixels:
    """Return pixels [height, width, channels] in the middle of a square."""
    return pad.run_on_array(pixels, padding_of(step, *pixels.shape[:2]))


def mask_step(step: SquarePad, ignored: int) -> SquarePad:
    """Return the same padding with the class that counts for nothing."""
    return msgspec.structs.replace(step, fill=(ignored,))


def _halves(lacking: int, step: SquarePad) -> tuple[int, int]:
    small, large = lacking // 2, lacking - lacking // 2
    return (large, small) if step.odd == "before" else (small, large)
