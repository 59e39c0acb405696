"""Execution of the geometry steps on the host, on images, arrays and masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.geometry.arrays import Pixels
from runtime.geometry.images import to_array
from runtime.geometry.registry import STEPS
from runtime.geometry.steps import resize
from runtime.manifest import CenterCrop, GeometryStep, Resize


def prepare(image: Image.Image | Pixels, steps: Sequence[GeometryStep]) -> Pixels:
    """Return the prepared pixels of a decoded image, [height, width, channels]: uint8, or uint16 as an array may be.

    Images go through Pillow, arrays through numpy.
    """
    if not isinstance(image, Image.Image):
        return _prepare_array(image, steps)
    for step, crop in with_crops(steps):
        if isinstance(step, Resize):
            image = resize.run_on_image(image, step, crop)
        else:
            image = STEPS[type(step)].run_on_image(image, step)
    return to_array(image)


def prepare_mask(mask: NDArray[Any], steps: Sequence[GeometryStep], *, ignored: int) -> NDArray[Any]:
    """Return a label map, uint8 or int32 [height, width], resized and cropped as ``steps`` do with its image.

    Classes are not mixed, and ``ignored`` is the class of what padding adds.
    """
    masked = (STEPS[type(step)].mask_step(step, ignored) for step in steps)
    return prepare(Image.fromarray(mask), [step for step in masked if step is not None])[:, :, 0]


def with_crops(steps: Sequence[GeometryStep]) -> list[tuple[GeometryStep, CenterCrop | None]]:
    """Return the steps in order, a resize together with the crop that follows it at once: the two run as one."""
    paired: list[tuple[GeometryStep, CenterCrop | None]] = []
    for step in steps:
        if isinstance(step, CenterCrop) and paired and isinstance(paired[-1][0], Resize) and paired[-1][1] is None:
            paired[-1] = (paired[-1][0], step)
        else:
            paired.append((step, None))
    return paired


def _prepare_array(pixels: Pixels, steps: Sequence[GeometryStep]) -> Pixels:
    for step in steps:
        pixels = STEPS[type(step)].run_on_array(pixels, step)
    prepared: Any = np.ascontiguousarray(pixels)
    return prepared  # type: ignore[no-any-return]  # each step keeps the type
