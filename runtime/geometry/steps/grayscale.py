"""Grayscale on the host, of RGB images."""

from PIL import Image

from runtime.geometry.arrays import Pixels
from runtime.geometry.sizes import PreparedShape
from runtime.manifest import Grayscale


def shape_after(shape: PreparedShape, step: Grayscale) -> PreparedShape:
    """Return the shape with the step's channels."""
    return PreparedShape(size=shape.size, channels=step.channels)


def measure(shape: PreparedShape, step: Grayscale) -> tuple[PreparedShape, int]:
    """Return the shape with the step's channels."""
    after = shape_after(shape, step)
    return after, after.values


def run_on_image(image: Image.Image, step: Grayscale) -> Image.Image:
    """Return Pillow's gray image, repeated over the step's channels."""
    gray = image.convert("L")
    return gray if step.channels == 1 else Image.merge("RGB", (gray, gray, gray))


def run_on_array(_pixels: Pixels, _step: Grayscale) -> Pixels:
    """Never runs: the exporter folds Grayscale into images alone."""
    raise AssertionError("the exporter folds Grayscale into images alone")


def mask_step(_step: Grayscale, _ignored: int) -> None:
    """Return None: a mask has no colors."""
    return
