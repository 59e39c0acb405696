"""Pillow's resize of uint8 images, one axis at a time, to the last bit."""

import math

from PIL import Image

from runtime.geometry.images import crop_window
from runtime.geometry.sizes import kept_span, source_span, vertical_first
from runtime.manifest import CenterCrop, Resize

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_ROWS, _COLUMNS = 0, 1

# Filters that reach zero at their edges. The others take or leave a whole pixel by a last bit, which a window's first
# corner, added to its positions, may change.
_CONTINUOUS = {"bilinear", "hamming", "bicubic", "lanczos"}

# Whole numbers up to here are exact in float32.
_FLOAT32_EXACT = 1 << 24


def resize_image(image: Image.Image, step: Resize, resized: tuple[int, int], crop: CenterCrop | None) -> Image.Image:
    """Return an image resized to ``resized`` (height, width) and cropped, each axis cropped as soon as it has its size.

    Two one-axis passes give the same bytes as Pillow's single call; each then skips what the crop drops, and their
    order is the manifest's rather than that of the Pillow that happens to be installed.
    """
    size = (image.height, image.width)
    kept = [(0, resized[axis]) for axis in (_ROWS, _COLUMNS)]
    if crop is not None:
        lengths = (crop.height, crop.width)
        kept = [kept_span(resized[axis], lengths[axis], crop.rounding) for axis in (_ROWS, _COLUMNS)]
    fill = crop.fill if crop is not None else (0,)
    first, second = (_ROWS, _COLUMNS) if vertical_first(*size, resized, step) else (_COLUMNS, _ROWS)
    sources = source_span(size[second], resized[second], kept[second], step.interpolation)
    part = _crop_axis(image, second, sources)
    part = _resize_axis(part, first, resized[first], kept[first], step, fill)
    part = _restore_axis(part, second, sources[0], size[second])
    return _resize_axis(part, second, resized[second], kept[second], step, fill)


def _resize_axis(
    image: Image.Image, axis: int, length: int, kept: tuple[int, int], step: Resize, fill: tuple[int, ...]
) -> Image.Image:
    """Return the ``kept`` pixels of ``image`` resized to ``length`` along ``axis``."""
    size = image.height if axis == _ROWS else image.width
    start, end = _exact_window(size, length, kept) if step.interpolation in _CONTINUOUS else (0, length)
    first, last = start * size / length, end * size / length
    resized, box = (
        ((image.width, end - start), (0, first, image.width, last))
        if axis == _ROWS
        else ((end - start, image.height), (first, 0, last, image.height))
    )
    window = image.resize(resized, _FILTERS[step.interpolation], box=box)
    return _crop_axis(window, axis, (kept[0] - start, kept[1] - start), fill)


def _exact_window(size: int, resized: int, kept: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest window around ``kept`` that Pillow resizes alone to the same bytes: first pixel, and end.

    Pillow's ``box`` has float32 corners; rounded ones would show in the pixels. So a window's corners have to be
    fractions of two on the source, in at most float32's 24 bits. A short side of 256 always has them, a long one often.
    """
    reduced = resized // math.gcd(size, resized)
    odd = reduced // (reduced & -reduced)
    if size * (reduced // odd) >= _FLOAT32_EXACT:
        return 0, resized
    start, end = max(kept[0], 0) // odd * odd, -(-min(kept[1], resized) // odd) * odd
    return start, min(end, resized)


def _crop_axis(image: Image.Image, axis: int, span: tuple[int, int], fill: tuple[int, ...] = (0,)) -> Image.Image:
    if axis == _ROWS:
        return crop_window(image, (0, span[0], image.width, span[1]), fill)
    return crop_window(image, (span[0], 0, span[1], image.height), fill)


def _restore_axis(part: Image.Image, axis: int, start: int, length: int) -> Image.Image:
    """Return an image of ``length`` pixels along ``axis`` with ``part`` where it was; the rest is not looked at."""
    size = (part.width, length) if axis == _ROWS else (length, part.height)
    if part.size == size:
        return part
    whole = Image.new(part.mode, size)
    whole.paste(part, (0, start) if axis == _ROWS else (start, 0))
    return whole
