"""Steps of transformers' image processors, read off their settings: one line per class.

transformers has two of each processor: on torchvision, which resizes tensors, and on Pillow, formerly the "slow" one.
They give different pixels, and the file does not say which of the two a model was trained with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from msgspec import UNSET

from exporter.errors import PreprocessingError
from exporter.inputs.image.steps.resize import PILLOW_FILTERS, axis_order
from runtime.manifest import (
    ArithmeticStep,
    CenterCrop,
    ChannelOrder,
    GeometryStep,
    Interpolation,
    KeepRatio,
    NearestColor,
    Normalize,
    Resize,
    ShareCrop,
    ToFloat,
)

Backend: TypeAlias = Literal["torchvision", "pil"]

# Pillow's numbers, which the file holds, for what each backend's resize can do.
_INTERPOLATIONS: dict[Backend, dict[int, Interpolation]] = {
    "torchvision": {0: "nearest_exact", 2: "bilinear", 3: "bicubic"},
    "pil": PILLOW_FILTERS,
}
_BILINEAR = 2

# The steps of transformers' base classes; a class that overrides one does otherwise, and has a line of its own.
_STEPS = (
    *("_preprocess", "process_image", "resize", "center_crop", "rescale", "normalize", "rescale_and_normalize", "pad"),
    *("preprocess", "_preprocess_image_like_inputs", "_standardize_kwargs", "__call__"),
)

# From this size on, ConvNeXt's squeezes the whole image instead of cropping it.
_CONVNEXT_SQUEEZES = 384


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A processor whose settings are read; its class does not look at those that are ``ignored``."""

    processor: Any
    backend: Backend
    subject: str
    ignored: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Any:
        """Return a setting; None where there is none, or it is ignored."""
        return None if name in self.ignored else getattr(self.processor, name, None)

    def sides(self, name: str, *allowed: str) -> dict[str, int]:
        """Return a size by its names: one of the ``allowed``, of which ``height width`` are two."""
        sizes = {key: int(value) for key, value in dict(self[name] or {}).items() if value}
        if not any(sizes.keys() == set(names.split()) for names in allowed):
            known = " or ".join(" and ".join(map(repr, names.split())) for names in allowed)
            raise self.refuse(f"'{name}' cannot be folded in: expected {known}, got {sizes or 'none'}")
        return sizes

    def resize(self, size: int | tuple[int, int] | KeepRatio, *, multiple: int | None = None) -> Resize:
        """Return the resize to ``size``, on the processor's backend."""
        number = int(_BILINEAR if self["resample"] is None else self["resample"])
        interpolation = _INTERPOLATIONS[self.backend].get(number)
        if interpolation is None:
            known = ", ".join(f"{number} ({name})" for number, name in _INTERPOLATIONS[self.backend].items())
            raise self.refuse(f"'resample' cannot be folded in: expected one of {known}, got {number}")
        rounded = multiple if multiple and multiple > 1 else UNSET
        if self.backend == "pil":
            return Resize(size=size, interpolation=interpolation, axis_order=axis_order(), multiple=rounded)
        return Resize(
            size=size,
            interpolation=interpolation,
            axis_order="horizontal_first",
            implementation="torch",
            antialias=interpolation != "nearest_exact",
            multiple=rounded,
        )

    def crop(self, height: int, width: int) -> CenterCrop:
        """Return the crop, which rounds as the processor's backend does."""
        return CenterCrop(height=height, width=width, rounding="floor" if self.backend == "pil" else "down")

    def refuse(self, problem: str) -> PreprocessingError:
        """Return the error that says what cannot be followed."""
        return PreprocessingError(f"{self.subject}: {problem}. Pass --preprocess FILE.py:NAME.")


@dataclass(frozen=True, kw_only=True)
class ProcessorKind:
    """What the processors of one class do with their settings: ``resize``, then a crop, then arithmetic."""

    resize: Callable[[Settings], Sequence[GeometryStep]]
    arithmetic: Callable[[Settings], Sequence[ArithmeticStep]]
    ignored: frozenset[str] = frozenset()
    crops_first: bool = False


def kind_of(processor: Any, base: type, subject: str) -> ProcessorKind:
    """Return what a processor's class does with its settings; ``base`` is transformers' base class of its backend.

    Raises PreprocessingError for a class with steps of its own that is not listed.
    """
    own = type(processor)
    if own.__module__.startswith("transformers."):
        listed = PROCESSORS.get(own.__name__.removesuffix("Pil"))
        if listed is not None:
            return listed
    changed = [step for step in _STEPS if getattr(own, step, None) is not getattr(base, step, None)]
    tensors = getattr(own, "model_input_names", ())
    if changed and len(tensors) > 1:
        raise PreprocessingError(
            f"{subject}: '{own.__name__}' makes {len(tensors)} arrays of an image, {', '.join(map(repr, tensors))}: "
            "expected one, [channels, height, width]. Use a checkpoint whose photos have one size; of SigLIP 2, these "
            "have the type 'siglip', such as siglip2-base-patch16-224."
        )
    if changed:
        raise PreprocessingError(
            f"{subject}: '{own.__name__}' cannot be folded in: expected the usual steps, got its own "
            f"{', '.join(changed)}. Pass --preprocess FILE.py:NAME."
        )
    return _USUAL


def geometry_of(kind: ProcessorKind, settings: Settings) -> tuple[GeometryStep, ...]:
    """Return the geometry of a processor."""
    if settings["do_pad"]:
        raise settings.refuse("'do_pad' cannot be folded in")
    resized = tuple(kind.resize(settings)) if settings["do_resize"] else ()
    if not settings["do_center_crop"]:
        return resized
    crop = settings.sides("crop_size", "height width")
    if not kind.crops_first:
        return (*resized, settings.crop(crop["height"], crop["width"]))
    size = settings.sides("size", "height width")
    shares = {side: size[side] / crop[side] for side in ("height", "width")}
    if max(shares.values()) > 1:
        raise settings.refuse("'size' is larger than 'crop_size', which adds a frame")
    return (ShareCrop(**shares), *resized)


def _to_size(settings: Settings) -> list[GeometryStep]:
    size = settings.sides("size", "shortest_edge", "height width")
    return [settings.resize(size.get("shortest_edge") or (size["height"], size["width"]))]


def _convnext(settings: Settings) -> list[GeometryStep]:
    """Return a resize to the size over ``crop_pct``, and the crop; the whole image squeezed where the size is large."""
    short = settings.sides("size", "shortest_edge")["shortest_edge"]
    if short >= _CONVNEXT_SQUEEZES:
        return [settings.resize((short, short))]
    return [settings.resize(int(short / settings["crop_pct"])), settings.crop(short, short)]


def _levit(settings: Settings) -> list[GeometryStep]:
    size = settings.sides("size", "shortest_edge", "height width")
    if "shortest_edge" not in size:
        return _to_size(settings)
    return [settings.resize(int((256 / 224) * size["shortest_edge"]))]


def _poolformer(settings: Settings) -> list[GeometryStep]:
    share = settings["crop_pct"]
    if share is None:
        return _to_size(settings)
    size = settings.sides("size", "shortest_edge", "height width")
    short = size.get("shortest_edge") or (size["height"] if size["height"] == size["width"] else None)
    if short is not None:
        return [settings.resize(int(short / share))]
    return [settings.resize((int(size["height"] / share), int(size["width"] / share)))]


def _textnet(settings: Settings) -> list[GeometryStep]:
    short = settings.sides("size", "shortest_edge")["shortest_edge"]
    return [settings.resize(short, multiple=settings["size_divisor"])]


def _pp_lcnet(settings: Settings) -> list[GeometryStep]:
    short = settings["resize_short"]
    if short is None:
        return _to_size(settings)
    box = KeepRatio(height=short, width=short, side="outside", arithmetic="multiply")
    return [settings.resize(box, multiple=settings["size_divisor"])]


def _donut(settings: Settings) -> list[GeometryStep]:
    """Return the resize by the short side, the one that brings the long side into the box, and the frame around it."""
    if settings["do_align_long_axis"]:
        raise settings.refuse("'do_align_long_axis' turns images, which cannot be folded in")
    size = settings.sides("size", "height width")
    height, width = size["height"], size["width"]
    box = KeepRatio(height=height, width=width, side="inside", arithmetic="long_side", enlarge=False)
    steps: list[GeometryStep] = [settings.resize(min(height, width))]
    if settings["do_thumbnail"]:
        steps.append(settings.resize(box))
    # The frame is centered as torchvision's crop of a smaller image is, on both backends.
    frames = settings.processor.do_pad and settings["do_thumbnail"]
    return [*steps, CenterCrop(height=height, width=width, rounding="down")] if frames else steps


def _usual_arithmetic(settings: Settings) -> list[ArithmeticStep]:
    """Return the steps; on torchvision, transformers fuses them: mean and deviation in gray levels, in float32."""
    rescales, normalizes = settings["do_rescale"], settings["do_normalize"]
    levels = 1.0 / settings["rescale_factor"] if rescales else 1.0
    if not normalizes:
        return [ToFloat(divisor=levels)]
    mean, std = _per_channel(settings["image_mean"]), _per_channel(settings["image_std"])
    if settings.backend == "pil" or not rescales:
        return [ToFloat(divisor=levels), Normalize(mean=mean, std=std)]
    mean, std = (tuple((torch.tensor(values) * levels).tolist()) for values in (mean, std))
    return [ToFloat(divisor=1.0), Normalize(mean=mean, std=std)]


def _efficientnet(settings: Settings) -> list[ArithmeticStep]:
    """Return the steps with an offset by one, and with the division by the deviation once more."""
    if settings["do_rescale"] and settings["rescale_offset"]:
        steps: list[ArithmeticStep] = [
            ToFloat(divisor=1.0 / settings["rescale_factor"]),
            Normalize(mean=(1.0,), std=(1.0,)),
        ]
        if settings["do_normalize"]:
            mean, std = _per_channel(settings["image_mean"]), _per_channel(settings["image_std"])
            steps.append(Normalize(mean=mean, std=std))
    else:
        steps = _usual_arithmetic(settings)
    if settings["include_top"]:
        steps.append(Normalize(mean=(0.0,), std=_per_channel(settings["image_std"])))
    return steps


def channel_order(arithmetic: Sequence[ArithmeticStep]) -> tuple[int, ...] | None:
    """Return the order in which a processor hands on its channels, or None where it keeps theirs."""
    return next((step.order for step in arithmetic if isinstance(step, ChannelOrder)), None)


def _flipped(settings: Settings) -> list[ArithmeticStep]:
    """Return the steps, and RGB to BGR at their end, unless a setting says otherwise."""
    steps = _usual_arithmetic(settings)
    flips = getattr(settings.processor, "do_flip_channel_order", True)
    return [*steps, ChannelOrder(order=(2, 1, 0))] if flips else steps


def _imagegpt(settings: Settings) -> list[ArithmeticStep]:
    """Return the steps, and the color of each pixel as its index at their end."""
    steps = _usual_arithmetic(settings)
    if not settings["do_color_quantize"]:
        return steps
    colors = torch.as_tensor(settings["clusters"], dtype=torch.float32).tolist()
    return [*steps, NearestColor(colors=tuple((red, green, blue) for red, green, blue in colors))]


def _per_channel(values: float | Sequence[float]) -> tuple[float, ...]:
    """Return a mean or deviation, which may be one number for all channels, as the manifest has it."""
    return (float(values),) if isinstance(values, int | float) else tuple(map(float, values))


_NO_PAD = frozenset({"do_pad"})

_USUAL = ProcessorKind(resize=_to_size, arithmetic=_usual_arithmetic)
_WITH_MAPS = ProcessorKind(resize=_to_size, arithmetic=_usual_arithmetic, ignored=_NO_PAD)

# The classes that have steps of their own, by what transformers calls them on torchvision.
PROCESSORS: Mapping[str, ProcessorKind] = {
    "BeitImageProcessor": _WITH_MAPS,
    "MobileNetV2ImageProcessor": _WITH_MAPS,
    "SegformerImageProcessor": ProcessorKind(
        resize=_to_size, arithmetic=_usual_arithmetic, ignored=_NO_PAD | {"do_center_crop"}
    ),
    "ConvNextImageProcessor": ProcessorKind(resize=_convnext, arithmetic=_usual_arithmetic, ignored=_NO_PAD),
    "LevitImageProcessor": ProcessorKind(resize=_levit, arithmetic=_usual_arithmetic),
    "PoolFormerImageProcessor": ProcessorKind(resize=_poolformer, arithmetic=_usual_arithmetic),
    "TextNetImageProcessor": ProcessorKind(resize=_textnet, arithmetic=_usual_arithmetic, ignored=_NO_PAD),
    "PPLCNetImageProcessor": ProcessorKind(resize=_pp_lcnet, arithmetic=_flipped, ignored=_NO_PAD),
    "DonutImageProcessor": ProcessorKind(resize=_donut, arithmetic=_usual_arithmetic, ignored=_NO_PAD),
    "MobileViTImageProcessor": ProcessorKind(resize=_to_size, arithmetic=_flipped, ignored=_NO_PAD | {"do_normalize"}),
    "EfficientNetImageProcessor": ProcessorKind(resize=_to_size, arithmetic=_efficientnet, ignored=_NO_PAD),
    "ImageGPTImageProcessor": ProcessorKind(
        resize=_to_size, arithmetic=_imagegpt, ignored=_NO_PAD | {"do_center_crop"}
    ),
    "PerceiverImageProcessor": ProcessorKind(
        resize=_to_size, arithmetic=_usual_arithmetic, ignored=_NO_PAD, crops_first=True
    ),
}
