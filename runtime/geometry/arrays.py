"""Arrays of pixels, with any number of channels, of 8 or 16 bits, and frames around them."""

import math
from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

# A part of an image, in pixels: (top, left, height, width).
Window: TypeAlias = tuple[int, int, int, int]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Pixels of an image, uint8 [height, width, channels], from (``top``, ``left``) on.

    ``size`` is the (height, width) of the whole image.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    top: int = 0
    left: int = 0

    @classmethod
    def of_whole(cls, pixels: NDArray[Any]) -> Self:
        """Return all pixels of an image as a part of it."""
        return cls(pixels=pixels, size=(pixels.shape[0], pixels.shape[1]))

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the image is missing."""
        return self.pixels.shape[:2] == self.size


def add_frame(
    pixels: NDArray[Any], rows: tuple[int, int], columns: tuple[int, int], fill: Sequence[int]
) -> NDArray[Any]:
    """Return an array [height, width, channels] with ``rows`` above and below it, and ``columns`` left and right.

    ``fill`` is their color: one value, or one per channel.
    """
    if not any((*rows, *columns)):
        return pixels
    height, width, channels = pixels.shape
    framed = np.empty((height + sum(rows), width + sum(columns), channels), pixels.dtype)
    framed[:] = fill
    framed[rows[0] : rows[0] + height, columns[0] : columns[0] + width] = pixels
    return framed


def make_noise(*shape: int) -> NDArray[np.uint8]:
    """Return pixels that look random and are always the same, for self-checks: importing numpy.random takes 20 ms."""
    # A mix of shifts and products (Wang's integer hash): every value of 0 to 255 about equally often, no pattern.
    mixed: NDArray[np.uint32] = np.arange(math.prod(shape), dtype=np.uint32)
    mixed = (mixed ^ np.uint32(61)) ^ (mixed >> np.uint32(16))
    mixed *= np.uint32(9)
    mixed ^= mixed >> np.uint32(4)
    mixed *= np.uint32(0x27D4EB2D)
    mixed ^= mixed >> np.uint32(15)
    return (mixed & 255).astype(np.uint8).reshape(shape)
