"""Arrays of pixels, with any number of channels, of 8 or 16 bits, and frames around them."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]


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
