"""torchvision's transforms, of both versions, one by one to the manifest's steps; each refused by name and position."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import PIL
import torch
from torch import nn
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation

from exporter.errors import PreprocessingError
from exporter.inputs.image.opencv import Letterbox, OpenCVResize
from exporter.inputs.image.pixel_format import PixelFormat
from runtime.manifest import (
    ArithmeticStep,
    AxisOrder,
    CenterCrop,
    GeometryStep,
    Grayscale,
    Interpolation,
    KeepRatio,
    Normalize,
    Pad,
    Resize,
    ToFloat,
)

# What torchvision asks Pillow for; NEAREST_EXACT differs from NEAREST on tensors alone.
_INTERPOLATIONS: dict[InterpolationMode, Interpolation] = {
    InterpolationMode.NEAREST: "nearest",
    InterpolationMode.NEAREST_EXACT: "nearest",
    InterpolationMode.BOX: "box",
    InterpolationMode.BILINEAR: "bilinear",
    InterpolationMode.HAMMING: "hamming",
    InterpolationMode.BICUBIC: "bicubic",
    InterpolationMode.LANCZOS: "lanczos",
}

# Pillow's own numbers, which old code passes: Image.NEAREST, LANCZOS, BILINEAR, ...
_PILLOW_FILTERS: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}

# Training augmentation, by how torchvision names it.
_AUGMENTATION = (
    "Random",
    "ColorJitter",
    "AutoAugment",
    "TrivialAugment",
    "AugMix",
    "ElasticTransform",
    "GaussianBlur",
    "GaussianNoise",
    "ScaleJitter",
    "MixUp",
    "CutMix",
    "JPEG",
)

_FOLDABLE = (
    "expected Resize, CenterCrop, Pad, Grayscale, ToTensor, PILToTensor, ToImage, ToDtype, ConvertImageDtype and "
    "Normalize of torchvision.transforms or its v2"
)

_CENTER_CROP = (transforms.CenterCrop, v2.CenterCrop)
_TO_TENSOR = (transforms.ToTensor, v2.ToTensor)

# An RGB image in, the same image out.
_IDENTITIES = (v2.RGB, v2.ToPureTensor, v2.Identity, nn.Identity)


@dataclass(frozen=True, kw_only=True)
class LeafTransform:
    """A transform that is no container, and its position in the whole, as in ``2 of 4``, or ``2.1 of 4`` if nested."""

    transform: Callable[[Any], Any]
    position: str


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The manifest's steps; and for each leaf before the arithmetic, how many geometry steps there are after it."""

    geometry: tuple[GeometryStep, ...]
    arithmetic: tuple[ArithmeticStep, ...]
    after: tuple[int, ...]


def flatten(container: object) -> list[LeafTransform]:
    """Return the transforms in a Compose or nn.Sequential, nested ones in their place."""
    leaves = list(_leaves(container, ""))
    count = leaves[-1].position.partition(".")[0] if leaves else ""
    return [LeafTransform(transform=leaf.transform, position=f"{leaf.position} of {count}") for leaf in leaves]


def unfold_preset(preset: ImageClassification | SemanticSegmentation) -> list[LeafTransform]:
    """Return the transforms that a preset's ``forward`` applies, one after the other."""
    steps: list[Callable[[Any], Any]] = []
    if preset.resize_size is not None:
        size, interpolation = preset.resize_size, preset.interpolation
        steps.append(transforms.Resize(size, interpolation=interpolation, antialias=preset.antialias))
    if isinstance(preset, ImageClassification):
        steps.append(transforms.CenterCrop(preset.crop_size))
    steps += [
        transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize(mean=preset.mean, std=preset.std),
    ]
    return [LeafTransform(transform=step, position=str(position)) for position, step in enumerate(steps, start=1)]


def read_leaves(leaves: Sequence[LeafTransform], origin: str, pixels: PixelFormat) -> Parts:
    """Return the steps that the leaves are; raises PreprocessingError for the first that cannot be folded in."""
    return _Reader(leaves, origin, pixels).read()


def _leaves(container: object, prefix: str) -> Iterator[LeafTransform]:
    steps = container.transforms if hasattr(container, "transforms") else container
    for position, step in enumerate(steps, start=1):  # type: ignore[arg-type]
        if isinstance(step, transforms.Compose | v2.Compose | nn.Sequential):
            yield from _leaves(step, f"{prefix}{position}.")
        elif isinstance(step, ImageClassification | SemanticSegmentation):
            yield from (
                LeafTransform(transform=leaf.transform, position=f"{prefix}{position}.{leaf.position}")
                for leaf in unfold_preset(step)
            )
        else:
            yield LeafTransform(transform=step, position=f"{prefix}{position}")


class _Reader:
    """Walks the leaves once, knowing what the image is by then: PIL or an array, a tensor of its type, or of floats."""

    def __init__(self, leaves: Sequence[LeafTransform], origin: str, pixels: PixelFormat) -> None:
        self._leaves = leaves
        self._origin = origin
        self._pixels = pixels
        self._geometry: list[GeometryStep] = []
        self._arithmetic: list[ArithmeticStep] = []
        self._is_tensor = False

    def read(self) -> Parts:
        after = []
        for leaf in self._leaves:
            self._read_leaf(leaf)
            if not self._is_float:
                after.append(len(self._geometry))
        if not self._is_float:
            raise PreprocessingError(
                f"'{self._origin}': never becomes floats: expected ToTensor, or ToDtype(torch.float32, scale=True), in "
                "it. Name the whole evaluation transform."
            )
        return Parts(geometry=tuple(self._geometry), arithmetic=tuple(self._arithmetic), after=tuple(after))

    @property
    def _is_float(self) -> bool:
        return bool(self._arithmetic)

    def _read_leaf(self, leaf: LeafTransform) -> None:
        step: Any = leaf.transform
        place = f"'{self._origin}': step {leaf.position}, '{type(step).__name__}'"
        # Exact types: a subclass may do anything.
        match type(step):
            case transforms.Resize | v2.Resize:
                self._check_pixels(place)
                self._geometry.append(self._resize(step, place))
            case kind if kind in _CENTER_CROP or (
                _is_timm(kind, "CenterCropOrPad") and step.padding_mode == "constant"
            ):
                self._check_pixels(place)
                self._geometry.append(_center_crop(step, place))
            case kind if _is_timm(kind, "ResizeKeepRatio"):
                self._check_pixels(place)
                self._check_pil(place)
                self._geometry.append(_resize_keep_ratio(step, place))
            case kind if kind in (OpenCVResize, Letterbox):
                self._check_pixels(place)
                self._check_pil(place)
                self._geometry += _opencv_steps(step)
            case transforms.Pad | v2.Pad:
                self._check_pixels(place)
                self._geometry.append(_pad(step, place))
            case transforms.Grayscale | v2.Grayscale:
                self._check_pixels(place)
                self._check_pil(place)
                if self._pixels.mode != "RGB":
                    raise PreprocessingError(
                        f"{place}: the images are read as {self._pixels.mode}: expected RGB, of which it makes gray. "
                        "Leave out --pixel-format: gray images read as RGB come out the same."
                    )
                self._geometry.append(Grayscale(channels=step.num_output_channels))
            case transforms.PILToTensor | v2.PILToTensor if self._pixels.mode == "bands":
                raise PreprocessingError(f"{place}: takes PIL images: expected v2.ToImage, which takes arrays. Use it.")
            case transforms.PILToTensor | v2.PILToTensor | v2.ToImage:
                self._is_tensor = True
            case kind if not self._is_tensor and (kind in _TO_TENSOR or _is_timm(kind, "MaybeToTensor")):
                if self._pixels.dtype == "uint16":
                    raise PreprocessingError(
                        f"{place}: leaves 16-bit pixels as they are: expected v2.ToImage and "
                        "v2.ToDtype(torch.float32, scale=True). Use these."
                    )
                self._is_tensor = True
                self._arithmetic.append(ToFloat(divisor=255.0))
            case transforms.ConvertImageDtype | v2.ConvertImageDtype | v2.ToDtype:
                self._convert(step, place)
            case transforms.Normalize | v2.Normalize:
                if not self._is_float:
                    raise PreprocessingError(f"{place}: comes before the image is floats: expected it after. Reorder.")
                self._arithmetic.append(_normalize(step, place))
            case kind if kind in _IDENTITIES and (kind is not v2.RGB or self._pixels.mode == "RGB"):
                pass
            case _:
                raise PreprocessingError(f"{place}: {_why_refused(step)}")

    def _resize(self, step: Any, place: str) -> Resize:
        if self._pixels.dtype == "uint16":
            raise PreprocessingError(
                f"{place}: resizes 16-bit pixels: expected crops and padding alone. Resize the files themselves."
            )
        interpolation = _interpolation(step.interpolation)
        if interpolation is None:
            raise PreprocessingError(
                f"{place}: unknown interpolation: expected one of torchvision's InterpolationMode, "
                f"got {step.interpolation}. Use one of these."
            )
        if step.size is None:
            raise PreprocessingError(f"{place}: has no size: expected one beside max_size. Name the short side.")
        if self._is_tensor:
            return _resize_of_tensor(step, interpolation, place)
        return Resize(
            size=_size(step.size),
            interpolation=interpolation,
            axis_order=axis_order(),
            max_size=step.max_size,
        )

    def _convert(self, step: Any, place: str) -> None:
        kind, scale = step.dtype, getattr(step, "scale", True)
        if kind == getattr(torch, self._pixels.dtype) and not self._is_float:
            return
        if kind != torch.float32 or not self._is_tensor:
            raise PreprocessingError(
                f"{place}: cannot be folded in: expected a conversion of a tensor to torch.float32, got {kind}. "
                "Put PILToTensor or ToImage before it, and convert to float32."
            )
        if not self._is_float:
            self._arithmetic.append(ToFloat(divisor=float(self._pixels.largest) if scale else 1.0))

    def _check_pixels(self, place: str) -> None:
        if self._is_float:
            raise PreprocessingError(
                f"{place}: comes after the image became floats: expected it before. Move it there if that is how the "
                "model was trained; otherwise it cannot be folded in."
            )
        if self._pixels.mode == "bands" and not self._is_tensor:
            raise PreprocessingError(
                f"{place}: would get an array [height, width, channels]: expected v2.ToImage before it. Put it there."
            )

    def _check_pil(self, place: str) -> None:
        if self._is_tensor:
            raise PreprocessingError(
                f"{place}: works on a tensor, where torchvision rounds otherwise: expected it before ToTensor, "
                "PILToTensor or ToImage. Move it there."
            )


def _is_timm(kind: type, name: str) -> bool:
    """Return whether a class is timm's of that name, which is told without importing timm."""
    return kind.__module__ == "timm.data.transforms" and kind.__name__ == name


def _why_refused(step: object) -> str:
    name = type(step).__name__
    if name.startswith(_AUGMENTATION):
        return f"is training augmentation: {_FOLDABLE}. Pass the transform that you evaluate with."
    if name in {"FiveCrop", "TenCrop"}:
        return (
            "makes several images of one: expected one prediction for each image. "
            "Pass the transform with CenterCrop in its place."
        )
    return f"cannot be folded in: {_FOLDABLE}, got {type(step).__module__}.{name}. Replace it with these, or remove it."


def _resize_of_tensor(step: Any, interpolation: Interpolation, place: str) -> Resize:
    antialias = step.antialias is not False and not interpolation.startswith("nearest")
    if InterpolationMode.NEAREST_EXACT in (step.interpolation, getattr(step.interpolation, "value", None)):
        interpolation = "nearest_exact"
    foldable = {True: {"bilinear", "bicubic"}, False: {"bilinear", "nearest", "nearest_exact"}}[antialias]
    # Version 1 mixes tensors in float32, whose rounding depends on the machine; picking pixels rounds nothing.
    if interpolation not in foldable or (type(step) is transforms.Resize and interpolation in {"bilinear", "bicubic"}):
        version = 1 if type(step) is transforms.Resize else 2
        raise PreprocessingError(
            f"{place}: resizes a tensor: expected v2.Resize with bilinear, bicubic with antialias, or nearest, "
            f"got version {version} with {interpolation} and antialias={step.antialias}. Move it before ToTensor, "
            "PILToTensor or ToImage, where it resizes PIL images, and check the model's accuracy once with it."
        )
    return Resize(
        size=_size(step.size),
        interpolation=interpolation,
        axis_order="horizontal_first",
        max_size=step.max_size,
        implementation="torch",
        antialias=antialias,
    )


def _resize_keep_ratio(step: Any, place: str) -> Resize:
    """Return timm's resize by the longest (``longest`` 1) or the shortest side (0), relative to a box."""
    interpolation = _interpolation(step.interpolation) if isinstance(step.interpolation, InterpolationMode) else None
    if step.longest not in {0.0, 1.0} or interpolation is None or step.random_scale_prob or step.random_aspect_prob:
        raise PreprocessingError(
            f"{place}: cannot be folded in: expected 'longest' of 0 or 1, one interpolation and nothing random, got "
            f"{step}. Pass the transform that you evaluate with."
        )
    height, width = step.size
    return Resize(
        size=KeepRatio(
            height=int(height),
            width=int(width),
            side="inside" if step.longest else "outside",
            arithmetic="divide",
        ),
        interpolation=interpolation,
        axis_order=axis_order(),
    )


def _opencv_steps(step: OpenCVResize | Letterbox) -> list[GeometryStep]:
    height, width = step.size
    if isinstance(step, OpenCVResize):
        return [_opencv_resize((height, width), step.interpolation)]
    box = KeepRatio(height=height, width=width, side="inside", arithmetic="multiply", enlarge=step.enlarge)
    return [_opencv_resize(box, "bilinear"), CenterCrop(height=height, width=width, fill=(step.fill,))]


def _opencv_resize(size: tuple[int, int] | KeepRatio, interpolation: Interpolation) -> Resize:
    return Resize(
        size=size,
        interpolation=interpolation,
        axis_order="horizontal_first",
        implementation="opencv",
        antialias=False,
    )


def _center_crop(step: Any, place: str) -> CenterCrop:
    size = _size(step.size)
    height, width = (size, size) if isinstance(size, int) else size
    return CenterCrop(height=height, width=width, fill=_fill(getattr(step, "fill", 0), place))


def _fill(fill: Any, place: str) -> tuple[int, ...]:
    """Return the color of padding: one value, or one a channel."""
    if isinstance(fill, dict) or not isinstance(fill, int | float | tuple | list | None):
        raise PreprocessingError(f"{place}: fill cannot be folded in: expected a number or one a channel, got {fill}.")
    values = [fill or 0] if isinstance(fill, int | float | None) else list(fill)
    return tuple(int(value) for value in values)


def _pad(step: Any, place: str) -> Pad:
    padding = step.padding
    sides = [padding] if isinstance(padding, int) else list(padding)
    left, top, right, bottom = {1: sides * 4, 2: sides * 2, 4: sides}[len(sides)]
    if min(left, top, right, bottom) < 0:
        raise PreprocessingError(
            f"{place}: pads by less than nothing: expected 0 or more, got {sides}. Use CenterCrop."
        )
    return Pad(
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        mode=str(getattr(step.padding_mode, "value", step.padding_mode)),  # type: ignore[arg-type]
        fill=_fill(step.fill, place),
    )


def _normalize(step: Any, place: str) -> Normalize:
    mean, std = _floats(step.mean), _floats(step.std)
    if 0.0 in std:
        raise PreprocessingError(f"{place}: divides by zero: expected no 0 in std, got {list(std)}. Correct it.")
    return Normalize(mean=mean, std=std)


def _interpolation(mode: InterpolationMode | str | int) -> Interpolation | None:
    """Return what a torchvision transform names by its enumeration, its value, or Pillow's number; None if unknown."""
    if isinstance(mode, int):
        return _PILLOW_FILTERS.get(mode)
    try:
        return _INTERPOLATIONS[InterpolationMode(mode)]
    except ValueError:
        return None


def _size(size: int | Sequence[int]) -> int | tuple[int, int]:
    """Return torchvision's size: an int or a list of one is the short side, a pair is (height, width)."""
    if isinstance(size, int):
        return size
    return int(size[0]) if len(size) == 1 else (int(size[0]), int(size[1]))


def _floats(values: Sequence[float] | torch.Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in torch.as_tensor(values, dtype=torch.float64).reshape(-1))


def axis_order() -> AxisOrder:
    """Return the order in which this machine's Pillow, the one that the reference runs on, resizes the two axes."""
    return "larger_cut_first" if int(PIL.__version__.partition(".")[0]) >= 13 else "horizontal_first"
