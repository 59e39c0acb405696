"""Arrays of pixels, with any number of channels, of 8 or 16 bits, and frames around them."""

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
