"""Resize and crop on the host with the native kernel.

The kernel is optional (``pip install 'truecopy[fast]'``). It checks itself against Pillow when it is first used; where
it is not installed, or fails, ``runtime/geometry/preparation.py`` computes the same pixels.
"""

import threading
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.geometry.arrays import Part, Pixels, Window, make_noise
from runtime.geometry.images import from_array, to_array
from runtime.geometry.preparation import prepare as prepare_without_kernel
from runtime.geometry.preparation import with_crops
from runtime.geometry.registry import STEPS
from runtime.geometry.sizes import KEPT_SIZES, kept_span, resized_size, source_span, vertical_first
from runtime.geometry.steps import center_crop, resize
from runtime.manifest import AxisOrder, CenterCrop, GeometryStep, Grayscale, Interpolation, Resize

_INSTALL = "pip install 'truecopy[fast]'"

# Pillow's image of more pixels is resized by Pillow: an array of it would need as much memory once more.
_MAX_COPIED_PIXELS = 16_000_000

# TRUECOPY_MAX_SIDE in truecopy_kernels.h.
_MAX_SIDE = (1 << 24) - 1
_MAX_CHANNELS = 4

_FILTERS: tuple[Interpolation, ...] = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_TORCH_FILTERS: tuple[Interpolation, ...] = ("bilinear", "bicubic")


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """The native kernel of this process; without ``module``, ``reason`` says why there is none."""

    module: Any = None
    version: str = ""
    path: str = ""
    reason: str = ""


_lock = threading.Lock()
_kernel: Kernel | None = None


def find_kernel() -> Kernel:
    """Return the kernel, which the first call finds and checks.

    A kernel that is there and does not work is off for the process, with one warning.
    """
    global _kernel
    if _kernel is None:
        with _lock:
            if _kernel is None:
                _kernel = _open_kernel()
    return _kernel


def is_loaded() -> bool:
    """Return whether the kernel has been looked for: whether ``find_kernel`` costs nothing any more."""
    return _kernel is not None


def needed_window(height: int, width: int, steps: Sequence[GeometryStep]) -> Window | None:
    """Return the part of an image that ``prepare`` looks at, or None where that is all of it."""
    return None if find_kernel().module is None else _needed_window(height, width, tuple(steps))


@lru_cache(maxsize=KEPT_SIZES)
def _needed_window(height: int, width: int, steps: Sequence[GeometryStep]) -> Window | None:
    step, crop = next(iter(with_crops(steps)), (None, None))
    if not isinstance(step, Resize) or crop is None:
        return None
    size = resized_size(height, width, step)
    if not _runs_on_kernel(height, width, size, step):
        return None
    spans = [
        source_span(old, new, kept_span(new, kept, crop.rounding), step.interpolation)
        for old, new, kept in zip((height, width), size, (crop.height, crop.width), strict=True)
    ]
    (top, bottom), (left, right) = spans
    return None if (bottom - top, right - left) == (height, width) else (top, left, bottom - top, right - left)


def prepare(image: Image.Image | Pixels | Part, steps: Sequence[GeometryStep], out: Pixels | None = None) -> Pixels:
    """Return the prepared pixels of a decoded image, as ``runtime.geometry.preparation.prepare`` does.

    Of an image, the part of it that ``needed_window`` returns is enough. The result has memory of its own, which is
    ``out`` where the last step resizes to pixels of its shape. What the kernel does not do (16 bits, more than four
    channels, resizes without antialias) other implementations do, with the same pixels.
    """
    kernel = find_kernel().module
    if isinstance(image, Part):
        part = image
    elif kernel is None or not _is_for_kernel(image):
        return prepare_without_kernel(_to_image(image, steps), steps)
    else:
        part = Part.of_whole(to_array(image))
    decoded = pixels = part.pixels
    pairs = with_crops(steps)
    for index, (step, crop) in enumerate(pairs, start=1):
        match step:
            case Resize():
                pixels = _resize(kernel, part, step, crop, out if index == len(pairs) else None)
            case Grayscale():
                gray = pixels if pixels.shape[2] == 1 else to_gray(pixels)
                pixels = gray if step.channels == 1 else gray.repeat(3, axis=2)
            case _:
                pixels = STEPS[type(step)].run_on_array(pixels, step)  # type: ignore[assignment]  # keeps the type
        part = Part.of_whole(pixels)
    return pixels.copy() if np.may_share_memory(pixels, decoded) else np.ascontiguousarray(pixels)


def _to_image(image: Image.Image | Pixels, steps: Sequence[GeometryStep]) -> Image.Image | Pixels:
    """Return a photo's array as the image that the Pillow path takes; arrays of other kinds stay arrays."""
    is_photo = any(isinstance(step, Grayscale) or getattr(step, "implementation", "") == "pillow" for step in steps)
    if isinstance(image, Image.Image) or not is_photo:
        return image
    return from_array(image)


def to_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGB pixels as Pillow's ``convert("L")`` does, uint8 [height, width, 1]."""
    kernel = find_kernel().module
    if kernel is None:
        return to_array(Image.fromarray(pixels).convert("L"))
    gray: NDArray[np.uint8] = kernel.to_gray(_packed(pixels))
    return gray


def _is_for_kernel(image: Image.Image | Pixels) -> bool:
    if isinstance(image, Image.Image):
        return image.width * image.height <= _MAX_COPIED_PIXELS
    return image.dtype == np.uint8 and image.shape[2] <= _MAX_CHANNELS


def _runs_on_kernel(height: int, width: int, size: tuple[int, int], step: Resize) -> bool:
    """Return whether the kernel has this resize: Pillow's, of sides that are exact, or torch's with antialias."""
    if step.implementation == "pillow" and max(height, width, *size) > _MAX_SIDE:
        return False
    return step.implementation != "opencv" and step.antialias


def _resize(
    kernel: Any, part: Part, step: Resize, crop: CenterCrop | None, target: Pixels | None = None
) -> NDArray[np.uint8]:
    """Resize and crop in one call: what the crop drops is not computed, and what it adds is filled.

    The result is ``target`` where that has its shape.
    """
    pixels, (height, width), channels = part.pixels, part.size, part.pixels.shape[2]
    size = resized_size(height, width, step)
    if not _runs_on_kernel(height, width, size, step):
        is_pillows = step.implementation == "pillow" and step.antialias
        return (_resize_with_pillow if is_pillows else resize.run_on_array)(pixels, step, crop)
    lengths = size if crop is None else (crop.height, crop.width)
    spans = [
        (0, old) if crop is None else kept_span(old, length, crop.rounding)
        for old, length in zip(size, lengths, strict=True)
    ]
    starts = [max(start, 0) for start, _ in spans]
    kept = [min(end, old) - start for (_, end), old, start in zip(spans, size, starts, strict=True)]
    fits = target is not None and target.dtype == np.uint8 and target.shape == (*lengths, channels)
    resized: Any = target if fits else np.empty((*lengths, channels), np.uint8)
    out = resized
    if crop is not None and (kept[0] < lengths[0] or kept[1] < lengths[1]):
        resized[:] = crop.fill
        top, left = (max(-start, 0) for start, _ in spans)
        out = resized[top : top + kept[0], left : left + kept[1]]
    kernel.resize(
        _packed(pixels),
        size,
        step.interpolation,
        window=(*starts, *kept),
        rows_first=step.implementation == "pillow" and vertical_first(height, width, size, step),
        arithmetic=step.implementation,
        part_of=None if part.is_whole else (height, width, part.top, part.left),
        out=out,
    )
    return resized  # type: ignore[no-any-return]  # uint8, as both are


def _resize_with_pillow(pixels: NDArray[np.uint8], step: Resize, crop: CenterCrop | None) -> NDArray[np.uint8]:
    steps: list[GeometryStep] = [step] if crop is None else [step, crop]
    return prepare_without_kernel(from_array(pixels), steps).astype(np.uint8, copy=False)


def _packed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels with those of a row next to each other, copied only where they are not."""
    channels = pixels.shape[2]
    is_packed = (channels == 1 or pixels.strides[2] == 1) and pixels.strides[1] == channels
    return pixels if is_packed else np.ascontiguousarray(pixels)


def _open_kernel() -> Kernel:
    try:
        import truecopy_kernels
    except ModuleNotFoundError:
        return Kernel(reason=f"not installed: {_INSTALL}")
    except (ImportError, OSError) as error:
        return _switched_off(f"cannot be loaded: {error}")
    version = truecopy_kernels.__version__
    try:
        problem = check_kernel(truecopy_kernels)
    except Exception as error:  # whatever a kernel that is damaged or of another version raises
        problem = f"{type(error).__name__}: {error}"
    if problem:
        return _switched_off(f"version {version} failed its self-check: {problem}")
    return Kernel(module=truecopy_kernels, version=version, path=truecopy_kernels.best_path())


def _switched_off(reason: str) -> Kernel:
    warnings.warn(
        f"truecopy-kernels: {reason}. It is off for this process: Pillow computes the same pixels, slower. "
        "Install truecopy-kernels again.",
        RuntimeWarning,
        stacklevel=5,
    )
    return Kernel(reason=reason)


def check_kernel(kernel: Any) -> str:
    """Return what a few resizes, up and down, with each filter and in both orders, show to be wrong, or nothing."""
    noise = make_noise(61, 47, 3)
    sizes: tuple[tuple[tuple[int, int], AxisOrder], ...] = (
        ((23, 40), "horizontal_first"),
        ((17, 45), "larger_cut_first"),
        ((130, 70), "horizontal_first"),
    )
    for (height, width), order in sizes:
        crop = CenterCrop(height=height - 9, width=width + (6 if height < width else -20))
        for interpolation in _FILTERS:
            step = Resize(size=(height, width), interpolation=interpolation, axis_order=order)
            for pixels in (noise, noise[::-1, :, :1]):
                # Pillow's own crop has a limit of pixels, which is the process's, and may be anything.
                expected = center_crop.run_on_array(_resize_with_pillow(np.ascontiguousarray(pixels), step, None), crop)
                for part in (Part.of_whole(pixels), _needed_part(pixels, (step, crop))):
                    if not np.array_equal(_resize(kernel, part, step, crop), expected):
                        return f"other pixels than Pillow's with {interpolation} to {height} x {width}"
        for interpolation in _TORCH_FILTERS:
            step = Resize(size=(height, width), interpolation=interpolation, axis_order=order, implementation="torch")
            if not np.array_equal(_resize(kernel, Part.of_whole(noise), step, None), resize.run_on_array(noise, step)):
                return f"other pixels than torch's with {interpolation} to {height} x {width}"
    if not np.array_equal(kernel.to_gray(noise)[:, :, 0], np.asarray(Image.fromarray(noise).convert("L"))):
        return "other gray than Pillow's"
    return ""


def _needed_part(pixels: NDArray[np.uint8], steps: tuple[Resize, CenterCrop]) -> Part:
    size = (pixels.shape[0], pixels.shape[1])
    top, left, height, width = _needed_window(*size, steps) or (0, 0, *size)
    return Part(pixels=pixels[top : top + height, left : left + width], size=size, top=top, left=left)
