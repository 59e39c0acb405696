"""Functions of images in a transform, such as a class of the user's, read by what they give for probes.

What leaves images as they are, as images or arrays, pads them to a square, or makes them gray is found, and then held
against images of several sizes; anything else is not read.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from exporter.inputs.image.pixel_format import PixelFormat
from runtime.geometry.images import to_array
from runtime.geometry.registry import STEPS
from runtime.manifest import GeometryStep, Grayscale, SquarePad

# Height and width of the probes: both ways, even and odd differences, and none.
_SIZES = ((9, 14), (17, 6), (12, 12), (10, 13), (20, 10))


def probe_geometry(function: Callable[[Any], Any], pixels: PixelFormat) -> list[GeometryStep] | None:
    """Return the steps that a function of PIL images is; None where it is none."""
    if pixels.mode not in ("RGB", "L"):
        return None
    channels = len(pixels.mode)
    images = [_random_image(channels, size, seed) for seed, size in enumerate(_SIZES)]
    try:
        outputs = [function(image.copy()) for image in images]
        again = [function(image.copy()) for image in images]
    except Exception:  # the user's function may raise anything for an image
        return None
    if all(isinstance(output, np.ndarray) for output in outputs):
        # What follows gets arrays, as ToTensor and ToImage take them.
        same = all(map(np.array_equal, outputs, map(np.asarray, images)))
        return [] if same and outputs[0].dtype == np.uint8 else None
    if not all(isinstance(output, Image.Image) for output in (*outputs, *again)):
        return None
    wanted = [to_array(output) for output in outputs]
    if not all(np.array_equal(array, to_array(other)) for array, other in zip(wanted, again, strict=True)):
        return None
    for steps in _candidates(wanted[0], gray=channels == 1):
        made = (to_array(_run(image, steps)) for image in images)
        if all(np.array_equal(array, other) for array, other in zip(wanted, made, strict=True)):
            return steps
    return None


def _candidates(output: Any, *, gray: bool) -> Iterator[list[GeometryStep]]:
    """Yield what may have given ``output``, whose corner shows the color of a frame."""
    yield []
    fill = tuple(int(value) for value in output[0, 0])
    for odd in ("after", "before"):
        yield [SquarePad(fill=fill if len(set(fill)) > 1 else fill[:1], odd=odd)]
    if not gray:
        yield [Grayscale(channels=1)]
        yield [Grayscale(channels=3)]


def _run(image: Image.Image, steps: list[GeometryStep]) -> Image.Image:
    for step in steps:
        image = STEPS[type(step)].run_on_image(image, step)
    return image


def _random_image(channels: int, size: tuple[int, int], seed: int) -> Image.Image:
    shape = (*size, 3) if channels == 3 else size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))
