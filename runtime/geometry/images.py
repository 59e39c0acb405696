"""Windows of PIL images, and colors around them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.geometry.arrays import Pixels


def to_array(image: Image.Image | Pixels) -> NDArray[Any]:
    """Return the pixels of an image, or of an array [height, width] or [height, width, channels], as the latter."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def from_array(pixels: Pixels) -> Image.Image:
    """Return uint8 pixels [height, width, 1 or 3] as an image, gray or RGB."""
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])


def crop_window(image: Image.Image, box: tuple[int, int, int, int], fill: tuple[int, ...] = (0,)) -> Image.Image:
    """Return the pixels in ``box`` (left, top, right, bottom); ``fill`` stands for what lies outside the image."""
    if box == (0, 0, image.width, image.height):
        return image
    inside = min(box[:2]) >= 0 and box[2] <= image.width and box[3] <= image.height
    if inside or not any(fill):
        return image.crop(box)
    framed = Image.new(image.mode, (box[2] - box[0], box[3] - box[1]), fill_of(image, fill))
    framed.paste(image, (-box[0], -box[1]))
    return framed


def fill_of(image: Image.Image, fill: tuple[int, ...]) -> tuple[int, ...]:
    """Return a step's ``fill`` as one value per channel of an image."""
    return fill * len(image.getbands()) if len(fill) == 1 else fill
