"""Readers: a torchvision transform to the manifest's steps, each named when it cannot be folded in."""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from exporter.errors import PreprocessingError
from exporter.references import is_reference, load_object
from runtime.manifest import (
    ArithmeticStep,
    AxisOrder,
    CenterCrop,
    GeometryStep,
    Interpolation,
    Normalize,
    Preprocessing,
    Resize,
    ToFloat,
)

_INTERPOLATIONS: dict[InterpolationMode, Interpolation] = {
    InterpolationMode.BILINEAR: "bilinear",
    InterpolationMode.BICUBIC: "bicubic",
}

# Training augmentation, by how torchvision names it.
_AUGMENTATION = (
    "Random",
    "ColorJitter",
    "AutoAugment",
    "TrivialAugment",
    "AugMix",
    "ElasticTransform",
    "MixUp",
    "CutMix",
)

_FOLDABLE = "expected Resize, CenterCrop, ToTensor and Normalize of torchvision.transforms"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A training transform in two forms: as the manifest's steps, and untouched, as the reference to compare with.

    ``transform`` takes a PIL image and gives the network's input, float32 [3, height, width]. ``pixels`` is its part
    before the arithmetic: uint8 [height, width, 3]. ``assumed`` says that the user did not name it.
    """

    steps: Preprocessing
    transform: Callable[[Image.Image], torch.Tensor]
    pixels: Callable[[Image.Image], NDArray[np.uint8]]
    origin: str
    assumed: bool

    def describe(self) -> str:
        """Return the steps as one line for people."""
        return ", ".join(_describe(step) for step in (*self.steps.geometry, *self.steps.arithmetic))


def read_transform(preprocess: str | Callable[..., Any]) -> Reading:
    """Return the transform that ``preprocess`` is, or names as ``FILE.py:NAME`` or ``package.module:NAME``.

    A torchvision Compose, a preset of ``Weights.transforms()``, or a function without arguments that returns one.
    Raises PreprocessingError with a step's name and position when it cannot be folded in.
    """
    origin = preprocess if isinstance(preprocess, str) else type(preprocess).__name__
    found: object = preprocess
    if isinstance(preprocess, str):
        if not is_reference(preprocess):
            raise PreprocessingError(
                f"'{preprocess}': not a reference: expected 'FILE.py:NAME' or 'package.module:NAME'. "
                "Name the transform that the model was evaluated with."
            )
        found = load_object(preprocess, error=PreprocessingError)
    if inspect.isfunction(found):
        found = _call(found, origin)
    if isinstance(found, ImageClassification):
        return _read_classification_preset(found, origin=origin, assumed=False)
    if isinstance(found, transforms.Compose):
        return _read_compose(found, origin)
    raise PreprocessingError(
        f"'{origin}': not a torchvision transform: expected a torchvision.transforms.Compose, "
        f"got {type(found).__module__}.{type(found).__name__}. Name the Compose itself."
    )


def read_preset(torchvision_name: str) -> Reading:
    """Return the transform that torchvision ships for the default weights of an architecture.

    Raises PreprocessingError when it ships none.
    """
    weights = torchvision.models.get_model_weights(torchvision_name)
    default = getattr(weights, "DEFAULT", None)
    if default is None:
        raise PreprocessingError(
            f"'{torchvision_name}': torchvision ships no transform for it. Pass yours with --preprocess FILE.py:NAME."
        )
    return _read_classification_preset(default.transforms(), origin=str(default), assumed=True)


def _call(function: Callable[[], object], origin: str) -> object:
    try:
        return function()
    except Exception as error:  # the user's function may raise anything
        raise PreprocessingError(
            f"'{origin}': calling it without arguments failed: {type(error).__name__}: {error}. "
            "Name a transform, or a function without arguments that returns one."
        ) from error


def _read_classification_preset(preset: ImageClassification, *, origin: str, assumed: bool) -> Reading:
    # The user's own preset with the identity for its normalisation: its pixels, whatever its mean and deviation.
    identity = copy.copy(preset)
    identity.mean, identity.std = [0.0] * len(preset.mean), [1.0] * len(preset.std)

    def pixels(image: Image.Image) -> NDArray[np.uint8]:
        levels = identity(image).mul(255).round().to(torch.uint8)
        result: NDArray[np.uint8] = levels.permute(1, 2, 0).contiguous().numpy()
        return result

    resize = transforms.Resize(preset.resize_size, interpolation=preset.interpolation)
    geometry = (_read_resize(resize, origin), _read_center_crop(transforms.CenterCrop(preset.crop_size)))
    normalize = Normalize(mean=_floats(preset.mean), std=_floats(preset.std))
    return Reading(
        steps=_preprocessing(geometry, (ToFloat(divisor=255.0), normalize), origin),
        transform=preset,
        pixels=pixels,
        origin=origin,
        assumed=assumed,
    )


def _read_compose(compose: transforms.Compose, origin: str) -> Reading:
    steps: Sequence[object] = compose.transforms
    geometry: list[GeometryStep] = []
    arithmetic: list[ArithmeticStep] = []
    split = 0
    for position, step in enumerate(steps, start=1):
        place = f"'{origin}': step {position} of {len(steps)}, '{type(step).__name__}'"
        # Exact types: a subclass may do anything.
        if type(step) is transforms.Resize:
            _check_before_to_tensor(bool(arithmetic), place)
            geometry.append(_read_resize(step, place))
        elif type(step) is transforms.CenterCrop:
            _check_before_to_tensor(bool(arithmetic), place)
            geometry.append(_read_center_crop(step))
        elif type(step) is transforms.ToTensor and not arithmetic:
            arithmetic.append(ToFloat(divisor=255.0))
            split = position - 1
        elif type(step) is transforms.Normalize and arithmetic:
            arithmetic.append(_read_normalize(step, place))
        else:
            raise PreprocessingError(f"{place}: {_why_refused(step, bool(arithmetic))}")
    if not arithmetic:
        raise PreprocessingError(f"'{origin}': no ToTensor in it: {_FOLDABLE}. Name the whole evaluation transform.")
    user_geometry = transforms.Compose(list(steps[:split]))

    def pixels(image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(user_geometry(image))

    return Reading(
        steps=_preprocessing(tuple(geometry), tuple(arithmetic), origin),
        transform=compose,
        pixels=pixels,
        origin=origin,
        assumed=False,
    )


def _check_before_to_tensor(after: bool, place: str) -> None:
    if after:
        raise PreprocessingError(
            f"{place}: comes after ToTensor, where torchvision resizes floats: expected it before ToTensor. "
            "Move it there if that is how the model was trained; otherwise it cannot be folded in."
        )


def _why_refused(step: object, after_to_tensor: bool) -> str:
    name = type(step).__name__
    if name.startswith(_AUGMENTATION):
        return f"is training augmentation: {_FOLDABLE}. Pass the transform that you evaluate with."
    if name == "Normalize" and not after_to_tensor:
        return "comes before ToTensor: expected it after. Reorder the transform."
    return f"cannot be folded in: {_FOLDABLE}, got {type(step).__module__}.{name}. Replace it with these, or remove it."


def _read_resize(step: transforms.Resize, place: str) -> Resize:
    interpolation = _INTERPOLATIONS.get(step.interpolation)
    if interpolation is None:
        raise PreprocessingError(
            f"{place}: interpolation cannot be folded in: expected bilinear or bicubic, "
            f"got {getattr(step.interpolation, 'value', step.interpolation)}. Use one of these."
        )
    if step.max_size is not None:
        raise PreprocessingError(
            f"{place}: max_size cannot be folded in: expected None, got {step.max_size}. Remove it."
        )
    return Resize(size=_size(step.size), interpolation=interpolation, axis_order=_axis_order())


def _read_center_crop(step: transforms.CenterCrop) -> CenterCrop:
    size = _size(step.size)
    height, width = (size, size) if isinstance(size, int) else size
    return CenterCrop(height=height, width=width)


def _read_normalize(step: transforms.Normalize, place: str) -> Normalize:
    mean, std = _floats(step.mean), _floats(step.std)
    if len(mean) not in {1, 3} or len(std) not in {1, 3}:
        raise PreprocessingError(
            f"{place}: wrong number of channels: expected 3 values for an RGB image, "
            f"got a mean of {len(mean)} and a std of {len(std)}. Correct the transform."
        )
    if 0.0 in std:
        raise PreprocessingError(f"{place}: divides by zero: expected no 0 in std, got {list(std)}. Correct it.")
    return Normalize(mean=mean, std=std)


def _size(size: int | Sequence[int]) -> int | tuple[int, int]:
    """Return torchvision's size: an int or a list of one is the short side, a pair is (height, width)."""
    if isinstance(size, int):
        return size
    return int(size[0]) if len(size) == 1 else (int(size[0]), int(size[1]))


def _floats(values: Sequence[float] | torch.Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in torch.as_tensor(values, dtype=torch.float64).reshape(-1))


def _axis_order() -> AxisOrder:
    """Return the order in which this machine's Pillow, the one that the reference runs on, resizes the two axes."""
    return "larger_cut_first" if int(PIL.__version__.partition(".")[0]) >= 13 else "horizontal_first"


def _preprocessing(
    geometry: tuple[GeometryStep, ...], arithmetic: tuple[ArithmeticStep, ...], origin: str
) -> Preprocessing:
    size: tuple[int, int] | None = None
    for step in geometry:
        if isinstance(step, CenterCrop):
            size = (step.height, step.width)
        else:
            size = step.size if isinstance(step.size, tuple) else None
    if size is None:
        raise PreprocessingError(
            f"'{origin}': the prepared size would differ from image to image: expected a transform that ends in "
            "one size. Add CenterCrop((height, width)); images of that size already pass through it unchanged."
        )
    return Preprocessing(geometry=geometry, arithmetic=arithmetic, height=size[0], width=size[1])


def _describe(step: GeometryStep | ArithmeticStep) -> str:
    match step:
        case Resize():
            size = step.size if isinstance(step.size, int) else f"{step.size[0]} x {step.size[1]}"
            return f"Resize {size} {step.interpolation} antialias"
        case CenterCrop():
            same = step.height == step.width
            return f"CenterCrop {step.height}" if same else f"CenterCrop {step.height} x {step.width}"
        case ToFloat():
            return f"divide by {step.divisor:g}"
        case Normalize():
            mean, std = (" ".join(f"{value:g}" for value in values) for values in (step.mean, step.std))
            return f"Normalize mean {mean}, std {std}"
