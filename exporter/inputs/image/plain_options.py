"""Training transform stated by options, whole or as changes to an assumed one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2

from exporter.errors import PreprocessingError
from exporter.inputs.image.opencv_transforms import Letterbox, OpenCVResize
from exporter.inputs.image.steps.channel_order import PickChannels
from exporter.options.export import ExportOptions
from runtime.manifest import CenterCrop, KeepRatio, Normalize, Preprocessing, Resize, ToFloat

Size = int | tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class TransformParts:
    """The parts of the classic transform, each None where there is none: Resize, CenterCrop, floats, Normalize.

    ``channels`` is the order of the network's, ``mean`` and ``std`` in that order as well: those of pixels scaled to
    0-1, or of gray levels from 0 to 255 where one exceeds 1.
    """

    resize: Size | None = None
    crop: Size | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    resize_backend: str | None = None
    channels: str | None = None

    @property
    def stated(self) -> dict[str, Any]:
        """The parts that are there, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class ChangedParts:
    """An assumed transform's parts once some are changed, and each change in words."""

    parts: TransformParts
    changes: tuple[str, ...]


def parts_of_options(options: ExportOptions) -> TransformParts:
    """Return the parts that the user stated."""
    return TransformParts(
        resize=options.resize,
        crop=options.crop,
        mean=options.mean,
        std=options.std,
        interpolation=options.interpolation,
        resize_backend=options.resize_backend,
        channels=options.channels,
    )


def change_parts(steps: Preprocessing, origin: str, stated: TransformParts) -> ChangedParts:
    """Return the parts of an assumed transform with those that the user stated in place of its own.

    An exact size leaves nothing to crop, so an assumed crop goes with it. Raises PreprocessingError where the assumed
    transform has other steps.
    """
    assumed = _parts_of_steps(steps)
    if assumed is None:
        options = ", ".join(_flag(name) for name in stated.stated)
        raise PreprocessingError(
            f"{options}: cannot change the transform of {origin}: expected one of Resize, CenterCrop, ToTensor and "
            "Normalize. Pass the whole transform with --preprocess FILE.py:NAME."
        )
    changes = list_changes(stated, assumed.stated)
    parts = replace(assumed, **stated.stated)
    if stated.crop is None and assumed.crop is not None and leaves_no_crop(stated):
        parts = replace(parts, crop=None)
        changes.append(f"no crop, as --resize {_text(stated.resize)} is exact")
    return ChangedParts(parts=parts, changes=tuple(changes))


def leaves_no_crop(stated: TransformParts) -> bool:
    """Return whether the user stated the exact size of the network's input by a resize."""
    return isinstance(stated.resize, tuple) or (stated.resize is not None and stated.resize_backend == "letterbox")


def list_changes(stated: TransformParts, assumed: Mapping[str, Any]) -> list[str]:
    """Return what the user stated, in words, with what it takes the place of."""
    return [
        f"{_flag(name)} {_text(value)} for {_text(assumed[name])}"
        if name in assumed
        else f"{_flag(name)} {_text(value)}"
        for name, value in stated.stated.items()
        if value != assumed.get(name)
    ]


def check_no_frame(steps: Preprocessing, origin: str, stated: TransformParts) -> None:
    """Raise PreprocessingError where one stated size makes an assumed crop larger than what is resized.

    Every photo would get a black frame, which nobody trains with.
    """
    geometry = {type(step): step for step in steps.geometry}
    resize, crop = geometry.get(Resize), geometry.get(CenterCrop)
    if not isinstance(resize, Resize) or not isinstance(crop, CenterCrop) or None not in (stated.resize, stated.crop):
        return
    sides = (resize.size, resize.size) if isinstance(resize.size, int) else resize.size
    if isinstance(sides, tuple) and (crop.height > sides[0] or crop.width > sides[1]):
        flag, other = ("--resize", "--crop") if stated.resize is not None else ("--crop", "--resize")
        raise PreprocessingError(
            f"{flag}: the crop to {crop.height} x {crop.width} is larger than the resize to {_text(resize.size)}, with "
            f"the other of the two assumed from {origin}. Pass {other} as well."
        )


def transform_of_parts(parts: TransformParts) -> transforms.Compose:
    """Return Resize, CenterCrop, ToTensor and Normalize, each where it is stated.

    ``resize_backend`` resizes PIL images as torchvision does by default, uint8 tensors as its v2 does after ToImage, or
    as OpenCV does. Raises PreprocessingError for an interpolation that the backend does not have, for one without a
    resize, and for a mean without a deviation.
    """
    backend = parts.resize_backend or "pillow"
    steps: list[object] = []
    as_tensor = backend.startswith("torch")
    if as_tensor:
        steps.append(v2.ToImage())
    if parts.resize is not None:
        steps.append(_resize(parts.resize, parts.interpolation, backend))
    elif parts.resize_backend or parts.interpolation:
        name = "resize_backend" if parts.resize_backend else "interpolation"
        raise PreprocessingError(
            f"{_flag(name)} {getattr(parts, name)}: nothing to resize. Pass --resize with a size, or leave it out."
        )
    if parts.crop is not None:
        steps.append((v2 if as_tensor else transforms).CenterCrop(parts.crop))
    steps += _arithmetic(parts, as_tensor=as_tensor)
    return transforms.Compose(steps)


def _resize(size: Size, interpolation: str | None, backend: str) -> object:
    mode = InterpolationMode(interpolation or "bilinear")
    if backend == "pillow":
        return transforms.Resize(size, mode)
    if backend in {"torch", "torch-no-antialias"}:
        return v2.Resize(size, mode, antialias=backend == "torch")
    sides = (size, size) if backend == "letterbox" and isinstance(size, int) else size
    if isinstance(sides, int):
        raise PreprocessingError(
            f"--resize-backend opencv: needs an exact size: expected --resize HxW, got {size}. Give both sides."
        )
    known = ("bilinear",) if backend == "letterbox" else ("bilinear", "nearest")
    if mode.value not in known:
        raise PreprocessingError(
            f"--interpolation '{mode.value}': not available with --resize-backend {backend}: expected "
            f"{' or '.join(known)}. Pass one of these, or the transform with --preprocess."
        )
    if backend == "letterbox":
        return Letterbox(size=sides)
    return OpenCVResize(size=sides, interpolation=mode.value)


def _arithmetic(parts: TransformParts, *, as_tensor: bool) -> list[object]:
    """Return the conversion to floats, the order of channels and Normalize.

    Gray levels are not divided where the mean is one of them.
    """
    if (parts.mean is None) != (parts.std is None):
        raise PreprocessingError("--mean and --std: one is given without the other. Give both or neither.")
    levels = parts.mean is not None and parts.std is not None and in_gray_levels(parts.mean, parts.std)
    if levels:
        steps: list[object] = [] if as_tensor else [transforms.PILToTensor()]
        steps.append(v2.ToDtype(torch.float32, scale=False))
    else:
        steps = [v2.ToDtype(torch.float32, scale=True) if as_tensor else transforms.ToTensor()]
    if parts.channels == "bgr":
        steps.append(PickChannels((2, 1, 0)))
    if parts.mean is not None and parts.std is not None:
        steps.append(transforms.Normalize(mean=list(parts.mean), std=list(parts.std)))
    return steps


def in_gray_levels(mean: Sequence[float], std: Sequence[float]) -> bool:
    """Return whether a mean and a deviation are of gray levels from 0 to 255, and not of pixels scaled to 0-1.

    Raises PreprocessingError where they are of both.
    """
    levels = any(abs(value) > 1 for value in mean)
    if levels and any(value < 1 for value in std):
        raise PreprocessingError(
            f"--mean and --std: of different units: a mean of {_text(tuple(mean))} is in gray levels from 0 to 255, a "
            f"deviation of {_text(tuple(std))} in pixels scaled to 0-1. Give both in one of them; 1 is no division."
        )
    if not levels and any(value > 1 for value in std):
        if not any(mean):
            return True
        raise PreprocessingError(
            f"--mean and --std: of different units: a mean of {_text(tuple(mean))} is of pixels scaled to 0-1, a "
            f"deviation of {_text(tuple(std))} in gray levels from 0 to 255. Give both in one of them."
        )
    return levels


def _parts_of_steps(steps: Preprocessing) -> TransformParts | None:
    """Return the parts of a transform of PIL images that has no other steps; None for any other."""
    resize = next((step for step in steps.geometry if isinstance(step, Resize)), None)
    crop = next((step for step in steps.geometry if isinstance(step, CenterCrop)), None)
    normalize = next((step for step in steps.arithmetic if isinstance(step, Normalize)), None)
    classic = (resize, crop, ToFloat(divisor=255.0), normalize)
    if [*steps.geometry, *steps.arithmetic] != [step for step in classic if step is not None]:
        return None
    size = resize.size if resize is not None else None
    if isinstance(size, KeepRatio) or (crop is not None and crop.rounding != "half_even"):
        return None
    if resize is not None and (resize.implementation != "pillow" or resize.max_size or resize.multiple):
        return None
    return TransformParts(
        resize=size,
        crop=(crop.height, crop.width) if crop is not None else None,
        mean=normalize.mean if normalize is not None else None,
        std=normalize.std if normalize is not None else None,
        interpolation=resize.interpolation if resize is not None else None,
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _text(value: Any) -> str:
    """Return a value as the command line takes it."""
    if not isinstance(value, tuple):
        return str(value)
    return ("x" if all(isinstance(part, int) for part in value) else ",").join(f"{part:g}" for part in value)


def options_text(parts: TransformParts) -> str:
    """Return the options that state these parts, as the command line takes them, without those that are the default."""
    defaults = {"interpolation": "bilinear", "resize_backend": "pillow"}
    return " ".join(
        f"{_flag(name)} {_text(value)}" for name, value in parts.stated.items() if value != defaults.get(name)
    )
