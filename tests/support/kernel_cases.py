"""Resizes with random sizes, windows, strides and filters, and what Pillow and torch make of them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PILLOW_FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
TORCH_FILTERS = ("bilinear", "bicubic")

_FILTERS = {name: Image.Resampling[name.upper()] for name in PILLOW_FILTERS}

# How far a filter looks from its center, in pixels of the smaller of the two images.
_REACHES = {"nearest": 1.0, "box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}

# Pixels of the source and of the resized image: Pillow and torch need 50 ms for more.
_MOST_PIXELS = 400_000


@dataclass(frozen=True, kw_only=True)
class Case:
    """One resize; ``window`` is (top, left, height, width)."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    window: tuple[int, int, int, int]
    interpolation: str
    arithmetic: str
    rows_first: bool

    def __str__(self) -> str:
        order = "rows first" if self.rows_first else "columns first"
        return (
            f"{list(self.pixels.shape)} with strides {list(self.pixels.strides)} to {list(self.size)}, "
            f"window {list(self.window)}, {self.interpolation} of {self.arithmetic}, {order}"
        )


def random_case(random: np.random.Generator) -> Case:
    """Return a case with sides from 1 to 5,000."""
    while True:
        height, width, to_height, to_width = (_random_side(random) for _ in range(4))
        to_height = height if random.random() < 0.1 else to_height
        to_width = width if random.random() < 0.1 else to_width
        most = (height * width, to_height * to_width, to_height * width, height * to_width)
        if max(most) <= _MOST_PIXELS:
            break
    arithmetic = "torch" if random.random() < 0.25 else "pillow"
    rows, columns = (int(random.integers(1, length + 1)) for length in (to_height, to_width))
    return make_case(
        random,
        sides=(height, width, to_height, to_width),
        channels=int(random.integers(1, 5)),
        window=(
            int(random.integers(0, to_height - rows + 1)),
            int(random.integers(0, to_width - columns + 1)),
            rows,
            columns,
        ),
        interpolation=str(random.choice(TORCH_FILTERS if arithmetic == "torch" else PILLOW_FILTERS)),
        arithmetic=arithmetic,
        rows_first=bool(arithmetic == "pillow" and random.random() < 0.5),
        gap=int(random.integers(0, 4)) if random.random() < 0.3 else 0,
        backwards=bool(random.random() < 0.1),
    )


def make_case(
    random: np.random.Generator,
    *,
    sides: tuple[int, int, int, int],
    channels: int,
    gap: int = 0,
    backwards: bool = False,
    **options: Any,
) -> Case:
    """Return a case of noise; ``gap`` is how many pixels lie between its rows, which may go ``backwards``."""
    height, width, to_height, to_width = sides
    pixels = random.integers(0, 256, (height, width + gap, channels), dtype=np.uint8)
    if random.random() < 0.3:
        # Extremes only: what overshoots has to be clipped.
        pixels = (pixels // 128 * 255).astype(np.uint8)
    pixels = pixels[::-1, :width] if backwards else pixels[:, :width]
    return Case(pixels=pixels, size=(to_height, to_width), **options)


def needed_part(case: Case) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]]:
    """Return the pixels that the case's window is computed from, and what they are a part of."""
    height, width = case.pixels.shape[:2]
    top, left, rows, columns = case.window
    first_row, end_row = _source_span(height, case.size[0], top, rows, case.interpolation)
    first_column, end_column = _source_span(width, case.size[1], left, columns, case.interpolation)
    return case.pixels[first_row:end_row, first_column:end_column], (height, width, first_row, first_column)


def expected_pixels(case: Case) -> NDArray[np.uint8]:
    """Return the window's pixels as Pillow or torch computes them, uint8 [height, width, channels]."""
    whole = _torch_pixels(case) if case.arithmetic == "torch" else _pillow_pixels(case)
    top, left, height, width = case.window
    return whole[top : top + height, left : left + width]


def _source_span(size: int, resized: int, start: int, count: int, interpolation: str) -> tuple[int, int]:
    scale = size / resized
    reach = _REACHES[interpolation] * max(scale, 1.0) + 1.0
    return max(0, math.floor(start * scale - reach)), min(size, math.ceil((start + count) * scale + reach))


def _random_side(random: np.random.Generator) -> int:
    limit = int(random.choice([12, 100, 400, 5000]))
    return int(random.integers(1, limit + 1))


def _pillow_pixels(case: Case) -> NDArray[np.uint8]:
    """Resize one axis at a time, so that the order is the case's, whatever this Pillow's own is."""
    images = [Image.fromarray(np.ascontiguousarray(case.pixels[:, :, channel])) for channel in _channels(case)]
    if case.pixels.shape[2] == 3:
        images = [Image.fromarray(np.ascontiguousarray(case.pixels))]
    height, width = case.size
    resized = []
    for image in images:
        between = (image.width, height) if case.rows_first else (width, image.height)
        resized.append(
            np.asarray(
                image.resize(between, _FILTERS[case.interpolation]).resize(
                    (width, height), _FILTERS[case.interpolation]
                )
            )
        )
    return resized[0] if resized[0].ndim == 3 else np.stack(resized, axis=2)


def _torch_pixels(case: Case) -> NDArray[np.uint8]:
    import torch

    tensor = torch.from_numpy(case.pixels.copy()).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(tensor, size=case.size, mode=case.interpolation, antialias=True)
    return np.asarray(resized[0].permute(1, 2, 0))


def _channels(case: Case) -> range:
    return range(case.pixels.shape[2])
