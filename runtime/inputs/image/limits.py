"""Limits of an image, checked before it is decoded."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from runtime.errors import InputError
from runtime.geometry.memory import largest_need
from runtime.geometry.registry import STEPS, loses_side
from runtime.geometry.sizes import KEPT_SIZES, PreparedShape
from runtime.manifest import GeometryStep, ImageInput

# One limit in pixels stands for as many bytes as RGB pixels take.
_RGB_BYTES = 3


def check_size(size: tuple[int, ...], spec: ImageInput, *, subject: str, max_pixels: int) -> None:
    """Raise InputError for an image [height, width] of more than ``max_pixels``, or that becomes too large.

    The largest array on its way to the network (decoded, after or inside each step, as a tensor) may take as many bytes
    as ``max_pixels`` of RGB: a strip of 1 x 100,000 pixels, whose short side is resized to 256, has 6.5 billion.
    """
    check_pixels(size, subject=subject, max_pixels=max_pixels)
    height, width = size
    limit = limit_bytes(max_pixels)
    for sides in ((height, width), (width, height)) if spec.exif else ((height, width),):
        shape = PreparedShape(size=sides, channels=1 if spec.mode == "L" else spec.channels)
        need = largest_need(shape, spec.preprocessing, itemsize=np.dtype(spec.dtype).itemsize)
        if need.size_bytes > limit:
            raise InputError(
                f"{subject}: too large: {width} x {height} pixels would take {_megabytes(need.size_bytes)} for "
                f"{need.what}: expected at most {_megabytes(limit)}, as {max_pixels / 1e6:g} megapixels of RGB. Crop "
                "it or make it smaller, or raise the limit (max_pixels, --max-megapixels)."
            )


def check_sides(size: tuple[int, int], spec: ImageInput, *, subject: str) -> None:
    """Raise InputError for a decoded image so narrow that a step leaves nothing of it: its training transform fails."""
    step = _losing_step(PreparedShape(size=size, channels=spec.channels), spec.preprocessing.geometry)
    if step is not None:
        raise InputError(
            f"{subject}: too narrow: the step '{step.__struct_config__.tag}' leaves none of its "
            f"{size[1]} x {size[0]} pixels on the short side, and so the training transform fails on it. Crop the "
            "long side."
        )


@lru_cache(maxsize=KEPT_SIZES)
def _losing_step(shape: PreparedShape, steps: Sequence[GeometryStep]) -> GeometryStep | None:
    for step in steps:
        if loses_side(step, shape):
            return step
        shape, _ = STEPS[type(step)].measure(shape, step)
    return None


def check_pixels(size: tuple[int, ...], *, subject: str, max_pixels: int) -> None:
    """Raise InputError for pixels [height, width] of more than ``max_pixels``."""
    if math.prod(size) > max_pixels:
        raise too_large(subject, max_pixels, " x ".join(map(str, reversed(size))))


def too_large(subject: str, max_pixels: int, got: str) -> InputError:
    """Return the error of an image of more than ``max_pixels``."""
    return InputError(
        f"{subject}: too large: expected at most {max_pixels / 1e6:g} megapixels, got {got}. "
        "Make it smaller, or raise the limit (max_pixels, --max-megapixels)."
    )


def limit_bytes(max_pixels: int) -> int:
    """Return how many bytes one array on an image's way may take."""
    return max_pixels * _RGB_BYTES


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
