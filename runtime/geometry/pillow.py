"""The host's execution of the geometry steps: resize and crop of uint8 pixels with Pillow, to the last bit."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from runtime.geometry.arrays import Pixels, prepare_array, resize_array
from runtime.geometry.sizes import crop_origin, resized_size, vertical_first
from runtime.manifest import CenterCrop, GeometryStep, Grayscale, Interpolation, Pad, Resize

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

# How far each filter looks, in pixels of the smaller of the two images.
_REACH: dict[Interpolation, float] = {
    "nearest": 1.0,
    "box": 0.5,
    "bilinear": 1.0,
    "hamming": 1.0,
    "bicubic": 2.0,
    "lanczos": 3.0,
}


def prepare(image: Image.Image | Pixels, steps: Sequence[GeometryStep]) -> Pixels:
    """Return the prepared pixels of a decoded image, [height, width, channels]: uint8, or uint16 as an array may be."""
    if not isinstance(image, Image.Image):
        return prepare_array(image, steps)
    position = 0
    while position < len(steps):
        step = steps[position]
        following = steps[position + 1] if position + 1 < len(steps) else None
        if isinstance(step, Resize) and isinstance(following, CenterCrop):
            image = _resize(image, step, following)
            position += 2
            continue
        match step:
            case Resize():
                image = _resize(image, step, None)
            case CenterCrop():
                image = _crop(image, step)
            case Pad():
                image = _pad(image, step)
            case Grayscale():
                image = image.convert("L")
                image = image if step.channels == 1 else Image.merge("RGB", (image, image, image))
        position += 1
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _resize(image: Image.Image, step: Resize, crop: CenterCrop | None) -> Image.Image:
    """Resize one axis at a time, cropping each as soon as it has its size.

    Two one-axis passes give the same bytes as Pillow's single call; each then skips what the crop drops, and their
    order is the manifest's rather than that of the Pillow that happens to be installed.
    """
    if step.implementation != "pillow":
        return _resize_array(image, step, crop)
    old, new = (image.height, image.width), resized_size(image.height, image.width, step)
    kept = [_kept(new[axis], crop, axis) for axis in (_ROWS, _COLUMNS)]
    fill = crop.fill if crop is not None else (0,)
    first, second = (_ROWS, _COLUMNS) if vertical_first(*old, new, step) else (_COLUMNS, _ROWS)
    needed = _needed(old[second], new[second], kept[second], step.interpolation)
    part = _cut(image, second, needed)
    part = _resize_axis(part, first, new[first], kept[first], step, fill)
    part = _uncut(part, second, needed[0], old[second])
    return _resize_axis(part, second, new[second], kept[second], step, fill)


def _resize_axis(
    image: Image.Image, axis: int, length: int, kept: tuple[int, int], step: Resize, fill: tuple[int, ...]
) -> Image.Image:
    """Return the ``kept`` pixels of ``image`` resized to ``length`` along ``axis``."""
    old = image.height if axis == _ROWS else image.width
    start, end = _exact_window(old, length, kept) if step.interpolation in _CONTINUOUS else (0, length)
    first, last = start * old / length, end * old / length
    size, box = (
        ((image.width, end - start), (0, first, image.width, last))
        if axis == _ROWS
        else ((end - start, image.height), (first, 0, last, image.height))
    )
    resized = image.resize(size, _FILTERS[step.interpolation], box=box)
    return _cut(resized, axis, (kept[0] - start, kept[1] - start), fill)


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


def _cut(image: Image.Image, axis: int, span: tuple[int, int], fill: tuple[int, ...] = (0,)) -> Image.Image:
    if axis == _ROWS:
        return _window(image, (0, span[0], image.width, span[1]), fill)
    return _window(image, (span[0], 0, span[1], image.height), fill)


def _uncut(part: Image.Image, axis: int, start: int, length: int) -> Image.Image:
    """Return an image of ``length`` pixels along ``axis`` with ``part`` where it was; the rest is not looked at."""
    size = (part.width, length) if axis == _ROWS else (length, part.height)
    if part.size == size:
        return part
    whole = Image.new(part.mode, size)
    whole.paste(part, (0, start) if axis == _ROWS else (start, 0))
    return whole


def _kept(size: int, crop: CenterCrop | None, axis: int) -> tuple[int, int]:
    """Return the first pixel that a crop keeps of an axis, and the one after its last; beyond the image, it pads."""
    if crop is None:
        return 0, size
    wanted = (crop.height, crop.width)[axis]
    start = crop_origin(size, wanted, crop.rounding)
    return start, start + wanted


def _needed(size: int, resized: int, kept: tuple[int, int], interpolation: Interpolation) -> tuple[int, int]:
    """Return which pixels of an axis any of the ``kept`` ones is computed from, and a pixel more on each side."""
    scale = size / resized
    reach = _REACH[interpolation] * max(scale, 1.0) + 1.0
    first = max(0, math.floor(max(kept[0], 0) * scale - reach))
    return first, min(size, math.ceil(min(kept[1], resized) * scale + reach))


def _resize_array(image: Image.Image, step: Resize, crop: CenterCrop | None) -> Image.Image:
    pixels = np.asarray(image)
    resized = resize_array(pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis], step, crop)
    return Image.fromarray(resized if resized.shape[2] == 3 else resized[:, :, 0])


def _crop(image: Image.Image, step: CenterCrop) -> Image.Image:
    (top, bottom), (left, right) = _kept(image.height, step, _ROWS), _kept(image.width, step, _COLUMNS)
    return _window(image, (left, top, right, bottom), step.fill)


def _pad(image: Image.Image, step: Pad) -> Image.Image:
    sides = ((step.top, step.bottom), (step.left, step.right))
    if step.mode == "constant":
        size = (image.width + step.left + step.right, image.height + step.top + step.bottom)
        padded = Image.new(image.mode, size, _colour(image, step.fill))
        padded.paste(image, (step.left, step.top))
        return padded
    pixels = np.asarray(image)
    return Image.fromarray(np.pad(pixels, sides if pixels.ndim == 2 else (*sides, (0, 0)), mode=step.mode))


def _window(image: Image.Image, box: tuple[int, int, int, int], fill: tuple[int, ...] = (0,)) -> Image.Image:
    """Return the pixels in ``box`` (left, top, right, bottom); ``fill`` stands for what lies outside the image."""
    if box == (0, 0, image.width, image.height):
        return image
    inside = min(box[:2]) >= 0 and box[2] <= image.width and box[3] <= image.height
    if inside or not any(fill):
        return image.crop(box)
    framed = Image.new(image.mode, (box[2] - box[0], box[3] - box[1]), _colour(image, fill))
    framed.paste(image, (-box[0], -box[1]))
    return framed


def _colour(image: Image.Image, fill: tuple[int, ...]) -> tuple[int, ...]:
    """Return one value a channel."""
    return fill * len(image.getbands()) if len(fill) == 1 else fill
