"""Steps that options state for a user's own callable, which stays the reference and is held against them.

What cannot be read is stated, and then proven equal: here on a few images, so that a mistake shows at once; in the
parity check on all of them, pixel by pixel.
"""

from collections.abc import Callable, Iterator, Sequence
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
from exporter.inputs.image.user_callable import (
    ARRAY_FORMS,
    FILE_FORMS,
    UserCallable,
    load_callable,
    ways_to_call,
    why_it_fails,
)
from exporter.options.export import RESIZE_BACKENDS
from runtime.geometry.arrays import Pixels

# Largest accepted difference in gray levels: float32's rounding of a normalized value is a thousandth of it.
_TOLERANCE = 0.01

_DRAWINGS = (
    Drawing(size=(427, 640), pattern="noise"),
    Drawing(size=(301, 255), pattern="waves"),
    Drawing(size=(96, 61), pattern="ramps"),
)

# Steps that are further off than this on average, in gray levels, do something else.
_NEAR = 5.0

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


def stating_advice(preprocess: str | Callable[..., Any], *, trust: bool = False, only_equal: bool = False) -> str:
    """Return the options that state what a callable does, measured, as sentences with a space before them.

    Where none do, they name the nearest, and how far off it is, unless ``only_equal``. Empty where it is no callable of
    the user's.
    """
    try:
        function, origin = load_callable(preprocess, trust=trust)
    except PreprocessingError:
        return ""
    images = [_draw(drawing) for drawing in _DRAWINGS]
    calls = _working(function, origin, images[0])
    if not calls and only_equal:
        return ""
    if not calls:
        return f" Called with an image, it fails: {why_it_fails(function, origin, images[0])}."
    found = [(parts, call) for call in calls for parts in islice(_search(call, images), 1)]
    if found:
        # Of arrays, those whose order it brings to RGB.
        parts, call = min(found, key=lambda item: item[0].channels is not None)
        exif = " --exif" if call.form in FILE_FORMS and _turns_photos(call) else ""
        other = [other.form for _, other in found if {other.form, call.form} == set(ARRAY_FORMS)]
        order = f"; add --channels bgr if its loader gives it {other[0]}" if other else ""
        return (
            f" Or let options state it, which are then proven equal to it on all images: --preprocess {origin} "
            f"{options_text(parts)}{exif} (found by calling it with {call.form}{order})."
        )
    if only_equal:
        return ""
    if _divides_by_its_own(calls[0], images[-1]):
        return (
            " It divides by statistics of the image itself: name a Compose of its steps, with Lambda(lambda x: (x - "
            "x.mean()) / (x.std() + 1e-6)) behind ToTensor; or leave that to the network's forward, which the artifact "
            "keeps."
        )
    return _nearest_advice(calls, images[0])


def _nearest_advice(calls: Sequence[UserCallable], image: Image.Image) -> str:
    """Return the options whose steps are nearest to what a callable gives, and how far off they are."""
    off = [(float(gap.mean()), float(gap.max()), parts) for call in calls for parts, gap in _candidates(call, image)]
    mean, largest, parts = min(off, key=lambda item: item[0], default=(float("inf"), 0.0, TransformParts()))
    if mean > _NEAR:
        return (
            " Options state a resize, a crop and a normalization alone: rewrite it as a Compose of such steps, or do "
            "what else it does in the network's forward, which the artifact keeps."
        )
    return (
        f" No resize and crop that options state are equal to it. The nearest is off by {mean:.2g} gray levels on "
        f"average and up to {largest:.2g}: check the model's accuracy once with it, and state it in place of "
        f"--preprocess: {options_text(parts)}."
    )


def _turns_photos(call: UserCallable) -> bool:
    """Return whether a callable that decodes files turns photos by their EXIF orientation, as cv2.imread does."""
    rotated = [(case, image) for case, image in odd_cases(exif=False) if case.name.startswith("EXIF")]
    try:
        return any(_gap(call(case.data), call(image)) > 0 for case, image in rotated)
    except Exception:  # the user's decoder may raise anything
        return False


def _divides_by_its_own(call: UserCallable, image: Image.Image) -> bool:
    """Return whether an image of half the contrast gives about the same."""
    try:
        first, second = call(image), call(image.point(lambda level: level // 2))
    except Exception:  # the user's function may raise anything
        return False
    spread = float(first.max() - first.min())
    return first.shape == second.shape and bool((first - second).abs().mean() < 0.02 * spread)


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
    found = next(iter(_search(call, [image])), None)
    advice = (
        f"Equal on one image are: {options_text(found)}"
        if found is not None
        else "Correct the options, or rewrite its steps with those of torchvision.transforms"
    )
    return (
        f"'{call.origin}': differs from what the options state ({steps.describe()}), called with {call.form}: "
        f"{problem}. {advice}."
    )


def _search(call: UserCallable, images: Sequence[Image.Image]) -> Iterator[TransformParts]:
    """Yield the options whose steps give what a callable gives of every image."""
    for parts, gap in _candidates(call, images[0]):
        if float(gap.max()) <= _TOLERANCE and _is_equal(call, parts, images[1:]):
            yield parts


def _is_equal(call: UserCallable, parts: TransformParts, images: Sequence[Image.Image]) -> bool:
    steps = read_transform(transform_of_parts(parts))
    levels = _levels_of(steps)
    try:
        return all(_difference(call, steps.transform, levels, image) <= _TOLERANCE for image in images)
    except Exception:  # the user's function may raise anything for another size
        return False


def _candidates(call: UserCallable, image: Image.Image) -> Iterator[tuple[TransformParts, torch.Tensor]]:
    """Yield options whose steps give the size that a callable gives, and by how many gray levels they differ."""
    try:
        black, white, red = (call(Image.new("RGB", image.size, color)) for color in ("black", "white", "red"))
        wanted = call(image)
    except Exception:  # the user's function may raise anything
        return
    channels, height, width = wanted.shape
    center = (slice(None), height // 2, width // 2)
    shift, scale = black[center], (white[center] - black[center]) / 255
    if channels != 3 or black.shape != wanted.shape or not bool((torch.isfinite(scale) & (scale != 0)).all()):
        return
    bgr = bool(torch.isclose(red[center], white[center])[2]) and not bool(torch.isclose(red[center], white[center])[0])
    levels = _Levels(scale=scale.view(-1, 1, 1), shift=shift.view(-1, 1, 1))
    arithmetic = _arithmetic_parts(scale, shift, bgr=bgr)
    pixels = levels.of(wanted)
    for parts in _geometries(height, width):
        candidate = replace(arithmetic, **parts)
        try:
            made = levels.of(transform_of_parts(candidate)(image))
        except (PreprocessingError, ValueError):  # a backend that does not have it
            continue
        if made.shape == pixels.shape:
            yield candidate, (made - pixels).abs()


def _arithmetic_parts(scale: torch.Tensor, shift: torch.Tensor, *, bgr: bool) -> TransformParts:
    """Return the mean and deviation of a scale and a shift of gray levels: in those where their numbers are shorter."""
    std, mean = 1 / scale.double(), -shift.double() / scale.double()
    written = {unit: (*_neat(mean / unit), *_neat(std / unit)) for unit in (255, 1)}
    in_levels = bool(std.min() >= 1) and bool(mean.abs().max() > 1)
    unit = min(written if in_levels else [255], key=lambda unit: sum(len(f"{value:g}") for value in written[unit]))
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
    for ratio in _CROP_RATIOS:
        if ratio != 1:
            for backend in ("pillow", "torch", "opencv"):
                exact = (round(height * ratio), round(width * ratio))
                yield {"resize": exact, "resize_backend": backend, "crop": (height, width)}
    if height == width:
        for short in dict.fromkeys(round(height * ratio) for ratio in _CROP_RATIOS):
            for interpolation in ("bilinear", "bicubic"):
                for backend in ("pillow", "torch"):
                    parts = {"resize": short, "interpolation": interpolation, "resize_backend": backend}
                    yield {**parts, "crop": height}
    yield {"crop": (height, width)}


def _draw(drawing: Drawing) -> Image.Image:
    return Image.fromarray(np.asarray(drawing.draw(RGB).array))
