"""Steps that options state for a user's own callable, which stays the reference and is held against them.

What cannot be read is stated, and then proven equal: here on a few images, so that a mistake shows at once; in the
parity check on all of them, pixel by pixel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from exporter.errors import PreprocessingError, first_line
from exporter.inputs.image.cases import odd_cases
from exporter.inputs.image.made_images import Drawing
from exporter.inputs.image.pixel_format import RGB, PixelFormat
from exporter.inputs.image.plain_options import TransformParts, options_text, transform_of_parts
from exporter.inputs.image.registry import STEPS
from exporter.inputs.image.torchvision_reader import is_albumentations
from exporter.inputs.image.transform import Prefix, TrainingTransform, read_parts, read_transform
from exporter.inputs.image.user_callable import ARRAY_FORMS, UserCallable, load_callable, ways_to_call, why_it_fails
from exporter.options.export import RESIZE_BACKENDS
from runtime.geometry.arrays import Pixels

# Largest accepted difference in gray levels: float32's rounding of a normalized value is a thousandth of it.
_TOLERANCE = 0.01

_DRAWINGS = (
    Drawing(size=(427, 640), pattern="noise"),
    Drawing(size=(301, 255), pattern="waves"),
    Drawing(size=(96, 61), pattern="ramps"),
)

# A deviation up to this is of gray levels that were not divided.
_LARGEST_PLAIN = 10.0

# Short sides that people resize to before they crop, as multiples of the crop.
_CROP_RATIOS = (256 / 224, 1.0, 232 / 224, 1 / 0.9, 1 / 0.95, 288 / 256)


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """The gray levels that arithmetic made a value of, by channel of the network: ``(value - shift) / scale``."""

    scale: torch.Tensor
    shift: torch.Tensor

    def of(self, values: torch.Tensor) -> torch.Tensor:
        return (values - self.shift) / self.scale


def read_stated(
    preprocess: str | Callable[..., Any],
    stated: TransformParts,
    pixels: PixelFormat,
    *,
    exif: bool,
    trust: bool = False,
) -> TrainingTransform:
    """Return the steps that options state, with the user's callable as their reference.

    Raises PreprocessingError where the two differ on a few images, with by how much and, where it is found, what would
    be equal.
    """
    function, origin = load_callable(preprocess, trust=trust)
    if pixels != RGB:
        raise PreprocessingError(
            f"'{origin}': cannot be held against options for images read as {pixels}: expected RGB. Leave out "
            "--pixel-format, or pass a transform that can be read."
        )
    steps = read_transform(transform_of_parts(stated), pixels)
    levels = _levels_of(steps)
    images = [_draw(drawing) for drawing in _DRAWINGS]
    working = _working(function, origin, images[0])
    if not working:
        raise PreprocessingError(
            f"'{origin}': fails on an image of {images[0].height} x {images[0].width} in every form, as a PIL image: "
            f"{why_it_fails(function, origin, images[0])}. Correct it, or name another with --preprocess."
        )
    ranked = sorted(working, key=lambda call: _difference(call, steps.transform, levels, images[0]))
    chosen = ranked[0]
    worst = max(_difference(chosen, steps.transform, levels, image) for image in images)
    if worst > _TOLERANCE:
        raise PreprocessingError(_unequal(chosen, steps, worst, images[0]))
    return _held_against(chosen, steps, levels, exif=exif)


def read_library(
    preprocess: str | Callable[..., Any], pixels: PixelFormat, *, trust: bool = False
) -> TrainingTransform | None:
    """Return the steps of a Compose of albumentations, with itself as their reference; None for any other transform.

    It is called with RGB arrays. Raises PreprocessingError where a part cannot be folded in, or where the steps differ
    from it on a few images.
    """
    try:
        function, origin = load_callable(preprocess, trust=trust)
    except PreprocessingError:
        return None
    if not is_albumentations(function):
        return None
    probability = getattr(function, "p", 1)
    if probability != 1:
        raise PreprocessingError(f"'{origin}': is applied with a probability of {probability}. Pass one with p=1.")
    if pixels != RGB:
        raise PreprocessingError(f"'{origin}': is for RGB images: got {pixels}. Leave out --pixel-format.")
    call = UserCallable(function=function, origin=origin, form=ARRAY_FORMS[0], by_keyword=True)
    steps = read_parts(function, origin, pixels)
    levels = _levels_of(steps)
    for image in map(_draw, _DRAWINGS):
        try:
            worst = _difference(call, steps.transform, levels, image)
        except Exception as error:  # such as a crop that is larger than the image
            raise PreprocessingError(
                f"'{origin}': fails on an image of {image.height} x {image.width}: {type(error).__name__}: "
                f"{first_line(error)}. Pass a transform that takes images of every size."
            ) from error
        if worst > _TOLERANCE:
            raise PreprocessingError(
                f"'{origin}': differs from the steps that were read of it ({steps.describe()}) on an image of "
                f"{image.height} x {image.width}, by up to {worst:.2g} gray levels. Put a resize before a frame "
                "or crop that not every image fits, or pass another transform."
            )
    return _held_against(call, steps, levels, exif=False)


def stating_advice(preprocess: str | Callable[..., Any], *, trust: bool = False, measured: bool = False) -> str:
    """Return the options that state what a callable does, measured where they are found, as a sentence with a space.

    Empty where it is no callable of an image; where they have to be ``measured``, also where none are found.
    """
    try:
        function, origin = load_callable(preprocess, trust=trust)
    except PreprocessingError:
        return ""
    image = _draw(_DRAWINGS[0])
    calls = _working(function, origin, image)
    if not calls:
        return ""
    found = [(parts, call.form) for call in calls for parts in islice(_search(call, image), 1)]
    if found:
        # Of arrays, those whose order it brings to RGB.
        parts, form = min(found, key=lambda item: item[0].channels is not None)
        return (
            f" Or let options state it, which are then proven equal to it on all images: --preprocess {origin} "
            f"{options_text(parts)} (found by calling it with {form})."
        )
    if measured:
        return ""
    return (
        " Or, where it is a resize, a crop and a normalization, let options state it, which are then proven equal to "
        f"it on all images: --preprocess {origin} --resize HxW --mean M,M,M --std S,S,S, with --resize-backend, "
        "--crop, --interpolation or --channels bgr as it has them."
    )


def _held_against(call: UserCallable, steps: TrainingTransform, levels: _Levels, *, exif: bool) -> TrainingTransform:
    order = next((step.order for step in steps.steps.arithmetic if hasattr(step, "order")), None)

    def pixels_of(source: Image.Image | bytes) -> Pixels:
        values = levels.of(call(source)).round().clamp(0, 255).to(torch.uint8)
        if order is not None:
            values = values[[order.index(channel) for channel in range(steps.steps.channels)]]
        return values.permute(1, 2, 0).contiguous().numpy()

    held = replace(
        steps,
        transform=call,
        prefixes=(Prefix(name=f"'{call.origin}'", steps=len(steps.steps.geometry), pixels=pixels_of),),
        origin=call.origin,
        restated="",
        called_with=call.form,
    )
    return replace(held, other_formats=_other_formats(call, levels, exif=exif)) if held.decodes else held


def _other_formats(call: UserCallable, levels: _Levels, *, exif: bool) -> tuple[str, ...]:
    """Return the odd formats that a callable that reads files decodes otherwise than Pillow.

    Raises PreprocessingError where it turns photos by their EXIF orientation, and the options do not say so.
    """
    others = []
    for case, image in odd_cases(exif=exif):
        try:
            equal = _gap(levels.of(call(case.data)), levels.of(call(image))) <= _TOLERANCE
        except Exception:  # the user's decoder may raise anything for a format that it does not know
            equal = False
        if equal:
            continue
        if case.name.startswith("EXIF"):
            raise PreprocessingError(
                f"'{call.origin}': {'leaves photos as they are' if exif else 'turns photos by their EXIF orientation'}"
                f", as cv2.imread does. {'Leave out' if exif else 'Pass'} --exif."
            )
        others.append(case.name)
    return tuple(others)


def _working(function: Callable[..., Any], origin: str, image: Image.Image) -> list[UserCallable]:
    """Return the ways of calling a function that give the same input of a network twice.

    One, or two where it takes arrays: the order of their channels is its loader's. What takes PIL images may take
    arrays as well, and is called with images.
    """
    working: list[UserCallable] = []
    for call in ways_to_call(function, origin):
        if not working or (working[-1].form in ARRAY_FORMS and call.form in ARRAY_FORMS):
            working += [call] if _is_steady(call, image) and call.form not in {way.form for way in working} else []
    return working


def _is_steady(call: UserCallable, image: Image.Image) -> bool:
    try:
        first, second = call(image), call(image)
    except Exception:  # the user's function may raise anything for what it does not take
        return False
    return first.shape == second.shape and torch.equal(first, second)


def _levels_of(steps: TrainingTransform) -> _Levels:
    """Return the inverse of the steps' arithmetic, found with two gray images."""
    values = torch.zeros(1, steps.steps.channels, 1, 1), torch.full((1, steps.steps.channels, 1, 1), 255.0)
    low, high = values
    for step in steps.steps.arithmetic:
        module = STEPS[type(step)].to_module(step)
        low, high = module(low), module(high)
    return _Levels(scale=((high - low) / 255)[0], shift=low[0])


def _difference(
    call: Callable[[Image.Image], torch.Tensor], other: Callable[[Any], torch.Tensor], levels: _Levels, image: Any
) -> float:
    """Return the largest difference in gray levels; infinite where the shapes differ."""
    return _gap(levels.of(call(image)), levels.of(other(image)))


def _gap(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max()) if first.shape == second.shape else float("inf")


def _unequal(call: UserCallable, steps: TrainingTransform, worst: float, image: Image.Image) -> str:
    expected, stated = list(call(image).shape), list(steps.transform(image).shape)
    problem = (
        f"expected its {expected} of an image of {image.height} x {image.width}, got {stated}"
        if expected != stated
        else f"by up to {worst:.2g} gray levels"
    )
    found = next(iter(_search(call, image)), None)
    advice = (
        f"Equal on one image are: {options_text(found)}"
        if found is not None
        else "Correct the options, or rewrite its steps with those of torchvision.transforms"
    )
    return (
        f"'{call.origin}': differs from what the options state ({steps.describe()}), called with {call.form}: "
        f"{problem}. {advice}."
    )


def _search(call: UserCallable, image: Image.Image) -> Iterator[TransformParts]:
    """Yield the options whose steps give what a callable gives of one image."""
    try:
        black, white, red = (call(Image.new("RGB", image.size, color)) for color in ("black", "white", "red"))
        wanted = call(image)
    except Exception:  # the user's function may raise anything
        return
    channels, height, width = wanted.shape
    center = (slice(None), height // 2, width // 2)
    shift, scale = black[center], (white[center] - black[center]) / 255
    if channels != 3 or black.shape != wanted.shape or bool((scale == 0).any()):
        return
    bgr = bool(torch.isclose(red[center], white[center])[2]) and not bool(torch.isclose(red[center], white[center])[0])
    levels = _Levels(scale=scale.view(-1, 1, 1), shift=shift.view(-1, 1, 1))
    arithmetic = _arithmetic_parts(scale, shift, bgr=bgr)
    pixels = levels.of(wanted)
    for parts in _geometries(height, width):
        candidate = replace(arithmetic, **parts)
        try:
            made = transform_of_parts(candidate)(image)
        except (PreprocessingError, ValueError):  # a backend that does not have it
            continue
        if _gap(pixels, levels.of(made)) <= _TOLERANCE:
            yield candidate


def _arithmetic_parts(scale: torch.Tensor, shift: torch.Tensor, *, bgr: bool) -> TransformParts:
    """Return the mean and deviation of a scale and a shift of gray levels: in those where nothing divides by 255."""
    std, mean = 1 / scale.double(), -shift.double() / scale.double()
    in_levels = bool(std.abs().max() <= _LARGEST_PLAIN) and bool(mean.abs().max() > 1)
    unit = 1 if in_levels else 255
    parts = TransformParts(mean=_neat(mean / unit), std=_neat(std / unit), channels="bgr" if bgr else None)
    if set(parts.mean or ()) == {0.0} and set(parts.std or ()) == {1.0}:
        return replace(parts, mean=None, std=None)
    return parts


def _neat(values: torch.Tensor) -> tuple[float, ...]:
    """Return numbers as people write them, where float32's rounding is all that differs."""
    neat = []
    for value in values.tolist():
        short = float(f"{value:.4g}") if abs(value) > 1e-6 else 0.0
        neat.append(short if abs(short - value) <= 1e-5 * max(abs(value), 1e-3) else float(f"{value:.7g}"))
    return tuple(neat)


def _geometries(height: int, width: int) -> Iterator[dict[str, Any]]:
    """Yield the parts of geometry that give a size, the usual ones first."""
    yield {}
    for interpolation in ("bilinear", "bicubic", "nearest", "lanczos"):
        for backend in RESIZE_BACKENDS:
            yield {"resize": (height, width), "interpolation": interpolation, "resize_backend": backend}
    if height == width:
        for short in dict.fromkeys(round(height * ratio) for ratio in _CROP_RATIOS):
            for interpolation in ("bilinear", "bicubic"):
                for backend in ("pillow", "torch"):
                    parts = {"resize": short, "interpolation": interpolation, "resize_backend": backend}
                    yield {**parts, "crop": height}
    yield {"crop": (height, width)}


def _draw(drawing: Drawing) -> Image.Image:
    return Image.fromarray(np.asarray(drawing.draw(RGB).array))
