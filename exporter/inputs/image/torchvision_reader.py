"""Reader of torchvision's transforms, version 1 and 2, and of albumentations', into the manifest's steps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation

from exporter.errors import PreprocessingError
from exporter.inputs.image.pixel_format import PixelFormat
from exporter.inputs.image.probed import probe
from exporter.inputs.image.probed_geometry import probe_geometry
from exporter.inputs.image.registry import STEPS
from exporter.inputs.image.step_module import Reader, RewriteError, Step, TransformInput
from exporter.inputs.image.steps import to_float
from runtime.geometry.registry import STEPS as GEOMETRY_STEPS
from runtime.geometry.sizes import PreparedShape
from runtime.manifest import ArithmeticStep, GeometryStep

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

# Several images of one.
_SEVERAL = ("FiveCrop", "TenCrop")

# The same pixels, as a tensor [channels, height, width].
_TO_TENSOR = (transforms.PILToTensor, v2.PILToTensor, v2.ToImage)

# albumentations' own, by the names that all of its versions have.
_LIBRARY = "albumentations"
_COMPOSES = ("albumentations.Compose", "albumentations.Sequential")
_TO_TENSORS = ("albumentations.ToTensorV2",)

# An RGB image in, the same image out.
_IDENTITIES = (v2.RGB, v2.ToPureTensor, v2.Identity, nn.Identity)


@dataclass(frozen=True, kw_only=True)
class LeafTransform:
    """A transform that is no container, and its position in the whole, as in ``2 of 4``, or ``2.1 of 4`` if nested."""

    transform: Callable[[Any], Any]
    position: str


@dataclass(frozen=True, kw_only=True)
class TransformSteps:
    """The manifest's steps of a transform, and how many geometry steps there are after each leaf of pixels.

    ``geometry_counts`` has one number per leaf before the arithmetic.
    """

    geometry: tuple[GeometryStep, ...]
    arithmetic: tuple[ArithmeticStep, ...]
    geometry_counts: tuple[int, ...]


def flatten(container: object) -> list[LeafTransform]:
    """Return the transforms in a Compose or nn.Sequential, those of nested ones in order."""
    leaves = list(_leaves(container, ""))
    count = leaves[-1].position.partition(".")[0] if leaves else ""
    return [LeafTransform(transform=leaf.transform, position=f"{leaf.position} of {count}") for leaf in leaves]


def is_albumentations(transform: object) -> bool:
    """Return whether a transform is a Compose of albumentations, which is called with ``image=`` and an array."""
    return _short_name(type(transform)) in _COMPOSES


def _short_name(kind: type) -> str:
    """Return a class's name with its package alone: libraries move classes from module to module."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def unfold_preset(preset: ImageClassification | SemanticSegmentation) -> list[LeafTransform]:
    """Return the transforms that a preset's ``forward`` applies, one after the other."""
    parts: list[Callable[[Any], Any]] = []
    if preset.resize_size is not None:
        size, interpolation = preset.resize_size, preset.interpolation
        parts.append(transforms.Resize(size, interpolation=interpolation, antialias=preset.antialias))
    if isinstance(preset, ImageClassification):
        parts.append(transforms.CenterCrop(preset.crop_size))
    parts += [
        transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize(mean=preset.mean, std=preset.std),
    ]
    return [LeafTransform(transform=part, position=str(position)) for position, part in enumerate(parts, start=1)]


def read_leaves(leaves: Sequence[LeafTransform], origin: str, pixels: PixelFormat) -> TransformSteps:
    """Return the steps that the leaves are; raise PreprocessingError for the first that cannot be folded in."""
    return _LeafReader(origin, pixels).read(leaves)


def crops_first(leaves: Sequence[LeafTransform]) -> list[LeafTransform]:
    """Return the transforms with a center crop put before the conversion to floats that it follows at once.

    The pixels are the same, and so is the frame of zeros where an image is smaller.
    """
    ordered: list[LeafTransform] = []
    for leaf in leaves:
        at = len(ordered)
        if type(leaf.transform) in (transforms.CenterCrop, v2.CenterCrop):
            while at and type(ordered[at - 1].transform) in to_float.READERS:
                at -= 1
        ordered.insert(at, leaf)
    return ordered


def _leaves(container: object, prefix: str) -> Iterator[LeafTransform]:
    parts = container.transforms if hasattr(container, "transforms") else container
    for position, part in enumerate(parts, start=1):  # type: ignore[arg-type]
        if isinstance(part, transforms.Compose | v2.Compose | nn.Sequential) or (
            # One that is not always applied is refused as a leaf.
            is_albumentations(part) and getattr(part, "p", 1) == 1
        ):
            yield from _leaves(part, f"{prefix}{position}.")
        elif isinstance(part, ImageClassification | SemanticSegmentation):
            yield from (
                LeafTransform(transform=leaf.transform, position=f"{prefix}{position}.{leaf.position}")
                for leaf in unfold_preset(part)
            )
        else:
            yield LeafTransform(transform=part, position=f"{prefix}{position}")


class _LeafReader:
    """Walks the leaves once, knowing what the image is by then: PIL or an array, a tensor of its type, or of floats."""

    def __init__(self, origin: str, pixels: PixelFormat) -> None:
        self._origin = origin
        self._pixels = pixels
        self._geometry: list[Any] = []
        self._arithmetic: list[Any] = []
        self._is_tensor = False

    def read(self, leaves: Sequence[LeafTransform]) -> TransformSteps:
        geometry_counts = []
        for leaf in leaves:
            self._read_leaf(leaf)
            if not self._arithmetic:
                geometry_counts.append(len(self._geometry))
        if not self._arithmetic:
            raise PreprocessingError(
                f"'{self._origin}': never becomes floats: expected ToTensor, or ToDtype(torch.float32, scale=True), in "
                "it. Name the whole evaluation transform."
            )
        return TransformSteps(
            geometry=tuple(self._geometry),
            arithmetic=tuple(self._arithmetic),
            geometry_counts=tuple(geometry_counts),
        )

    def _read_leaf(self, leaf: LeafTransform) -> None:
        transform, kind = leaf.transform, type(leaf.transform)
        subject = f"'{self._origin}': step {leaf.position}, '{kind.__name__}'"
        probability = getattr(transform, "p", 1) if _short_name(kind).startswith(f"{_LIBRARY}.") else 1
        if probability != 1:
            raise PreprocessingError(
                f"{subject}: is applied with a probability of {probability}: expected 1, which is always. Pass the "
                "transform that you evaluate with."
            )
        if _short_name(kind) in _TO_TENSORS:
            return
        if kind in _TO_TENSOR:
            if self._pixels.mode == "bands" and kind is not v2.ToImage:
                raise PreprocessingError(
                    f"{subject}: takes PIL images: expected v2.ToImage, which takes arrays. Use it."
                )
            self._is_tensor = True
            return
        if kind in _IDENTITIES and (kind is not v2.RGB or self._pixels.mode == "RGB"):
            return
        before = TransformInput(
            pixels=self._pixels,
            is_tensor=self._is_tensor or bool(self._arithmetic),
            is_float=bool(self._arithmetic),
            subject=subject,
        )
        read = _reader_of(kind)
        steps = read(transform, before) if read is not None else self._probe(transform, before)
        if steps is None and before.is_tensor and _is_function(transform):
            raise RewriteError(
                f"{subject}: cannot be folded in: it is no scale and shift of each channel, no choice of channels, and "
                "not (x - x.mean()) / (x.std() + 1e-6) of the image or of each channel. Write one of these; or compute "
                "it in the network's forward, which the artifact keeps, and leave it out here."
            )
        if steps is None:
            only_in_training = type(transform).__name__.startswith((*_AUGMENTATION, *_SEVERAL))
            raise (RewriteError if only_in_training else PreprocessingError)(f"{subject}: {_why_refused(transform)}")
        for step in steps:
            (self._geometry if type(step) in GEOMETRY_STEPS else self._arithmetic).append(step)

    def _probe(self, transform: Callable[[Any], Any], before: TransformInput) -> Sequence[Step] | None:
        """Return what a function of images, or of tensors of all channels, does, found by probes."""
        name = type(transform).__name__
        if name.startswith(_AUGMENTATION) or _is_followed_by_name(transform):
            return None
        channels = self._pixels.channels
        for step in (*self._geometry, *self._arithmetic):
            channels = channels_after(channels, step)
        if not before.is_tensor:
            return probe_geometry(transform, self._pixels) if channels == self._pixels.channels else None
        arithmetic = [STEPS[type(step)].to_module(step) for step in self._arithmetic]

        def run(levels: torch.Tensor) -> torch.Tensor:
            for module in arithmetic:
                levels = module(levels.unsqueeze(0))[0]
            return levels

        return probe(transform, channels, run, is_float=before.is_float)


def _is_function(transform: object) -> bool:
    """Return whether a transform is a user's own, or a Lambda of one, and none of a library's by its name."""
    libraries = ("torchvision.", "kornia.", "albumentations.", "monai.")
    return isinstance(transform, transforms.Lambda | v2.Lambda) or not type(transform).__module__.startswith(libraries)


def _is_followed_by_name(transform: object) -> bool:
    """Return whether a transform is of torchvision's second version, which is read by its name or not at all."""
    return isinstance(transform, v2.Transform) and type(transform) is not v2.Lambda


def channels_after(channels: int, step: Step) -> int:
    """Return how many channels there are after a step."""
    geometry = next((module for kind, module in GEOMETRY_STEPS.items() if type(step) is kind), None)
    if geometry is not None:
        return geometry.shape_after(PreparedShape(size=None, channels=channels), step).channels
    return len(getattr(step, "order", range(channels)))


def _reader_of(kind: type) -> Reader | None:
    keys = (kind, f"{kind.__module__}.{kind.__name__}", _short_name(kind))
    readers = (module.READERS.get(key) for module in STEPS.values() for key in keys)
    return next((reader for reader in readers if reader is not None), None)


def _why_refused(transform: object) -> str:
    name = type(transform).__name__
    if name.startswith(_AUGMENTATION):
        return f"is training augmentation: {_foldable()}. Pass the transform that you evaluate with."
    if name in _SEVERAL:
        return (
            "makes several images of one: expected one prediction for each image. Pass the transform with CenterCrop "
            "instead."
        )
    return (
        f"cannot be folded in: {_foldable()}, got {type(transform).__module__}.{name}. Replace it with these, or "
        "remove it."
    )


def _foldable() -> str:
    """Return which of torchvision's transforms can be folded in."""
    kinds = [kind for module in STEPS.values() for kind in module.READERS if isinstance(kind, type)]
    torchvisions = [kind.__name__ for kind in (*kinds, *_TO_TENSOR) if kind.__module__.startswith("torchvision.")]
    return f"expected {', '.join(dict.fromkeys(torchvisions))} of torchvision.transforms or its v2"
