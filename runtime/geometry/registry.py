"""Registry of the preprocessing steps that run on the host."""

from typing import Any, Protocol

from PIL import Image

from runtime.geometry.arrays import Pixels
from runtime.geometry.sizes import PreparedShape
from runtime.geometry.steps import center_crop, grayscale, pad, resize, share_crop, square_pad
from runtime.manifest import CenterCrop, GeometryStep, Grayscale, Pad, Resize, ShareCrop, SquarePad


class StepModule(Protocol):
    """What the module of a step has; ``step`` is of the step's manifest type, positional in all functions.

    One that may cut a side to nothing also has ``loses_side``, see the function here.
    """

    def shape_after(self, shape: PreparedShape, step: Any, /) -> PreparedShape:
        """Return the shape of pixels after the step, from their shape before it."""

    def measure(self, shape: PreparedShape, step: Any, /) -> tuple[PreparedShape, int]:
        """Return the shape of an image of ``shape``, whose size is known, after the step, and what the step takes.

        That is the bytes, with one per value of a pixel, of the largest array on the way that follows from the image.
        """

    def run_on_image(self, image: Image.Image, step: Any, /) -> Image.Image:
        """Return an image, RGB or gray, after the step."""

    def run_on_array(self, pixels: Pixels, step: Any, /) -> Pixels:
        """Return pixels [height, width, channels] of any number of channels after the step."""

    def mask_step(self, step: Any, ignored: int, /) -> GeometryStep | None:
        """Return what is done to the label map of an image, None for nothing.

        ``ignored`` is the class of the pixels that count for nothing.
        """


STEPS: dict[type[GeometryStep], StepModule] = {
    Resize: resize,
    CenterCrop: center_crop,
    ShareCrop: share_crop,
    Pad: pad,
    SquarePad: square_pad,
    Grayscale: grayscale,
}


def loses_side(step: GeometryStep, shape: PreparedShape) -> bool:
    """Return whether a step leaves no pixel of a side of an image, where training's library fails."""
    module: Any = STEPS[type(step)]
    return hasattr(module, "loses_side") and bool(module.loses_side(shape, step))
