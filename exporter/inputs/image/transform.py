"""A training transform in two forms: as the manifest's steps, and untouched, as the reference to compare with."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation

from exporter.errors import PreprocessingError
from exporter.inputs.image import torchvision as torchvision_steps
from exporter.inputs.image.hugging_face import CONFIG_NAME, Backend, read_processor
from exporter.inputs.image.pixel_format import RGB, PixelFormat
from exporter.object_path import is_reference, load_object
from runtime.geometry.arrays import Pixels
from runtime.manifest import (
    ArithmeticStep,
    CenterCrop,
    GeometryStep,
    Grayscale,
    KeepRatio,
    Normalize,
    Pad,
    Preprocessing,
    Resize,
    ToFloat,
)

# How an architecture's reference begins that brings a transform along.
TIMM = "timm:"
HUGGING_FACE = "hf:"

_CONTAINERS = (transforms.Compose, v2.Compose, nn.Sequential)


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """The transform up to one of its steps, as ``2 of 4, 'CenterCrop'``; ``steps`` are as many of the manifest's."""

    name: str
    steps: int
    pixels: Callable[[Any], Pixels]


@dataclass(frozen=True, kw_only=True)
class TrainingTransform:
    """What a training transform says, and the transform itself.

    ``transform`` takes a PIL image, or an array of bands, and gives the network's input, float32 [channels, height,
    width]. ``prefixes`` are its parts before the arithmetic, each a step longer, if it can be taken apart; ``pixels``
    is the longest: [height, width, channels]. ``assumed`` says that the user did not name it.
    """

    steps: Preprocessing
    transform: Callable[[Any], torch.Tensor]
    prefixes: tuple[Prefix, ...]
    origin: str
    assumed: bool

    @property
    def pixels(self) -> Callable[[Any], Pixels]:
        """The transform without its arithmetic."""
        return self.prefixes[-1].pixels

    def describe(self) -> str:
        """Return the steps as one line for people."""
        return ", ".join(_describe(step) for step in (*self.steps.geometry, *self.steps.arithmetic))


def read_transform(preprocess: str | Callable[..., Any], pixels: PixelFormat = RGB) -> TrainingTransform:
    """Return the transform that ``preprocess`` is, or names, for images of the format ``pixels``.

    Names are ``FILE.py:NAME``, ``package.module:NAME``, ``timm:NAME``, ``FOLDER/preprocessor_config.json`` and, for
    transformers' processor on Pillow, ``FOLDER/preprocessor_config.json:pil``; what they stand for is a torchvision
    Compose or nn.Sequential, of version 1 or 2, nested or not; a preset of ``Weights.transforms()``; or a function
    without arguments that returns one. Raises PreprocessingError with a step's name and position when it cannot be
    folded in.
    """
    origin = preprocess if isinstance(preprocess, str) else type(preprocess).__name__
    found: object = preprocess
    if isinstance(preprocess, str):
        if preprocess.startswith(TIMM):
            return replace(read_timm(preprocess.removeprefix(TIMM)), assumed=False)
        config, _, backend = preprocess.partition(f"{CONFIG_NAME}:")
        if backend == "pil":
            return read_hugging_face(Path(config), backend="pil", assumed=False)
        if Path(preprocess).name == CONFIG_NAME:
            return read_hugging_face(Path(preprocess).parent, assumed=False)
        if not is_reference(preprocess):
            raise PreprocessingError(
                f"'{preprocess}': not a reference: expected 'FILE.py:NAME' or 'package.module:NAME'. "
                "Name the transform that the model was evaluated with."
            )
        found = load_object(preprocess, error=PreprocessingError)
    if inspect.isfunction(found):
        found = _call(found, origin)
    if isinstance(found, ImageClassification | SemanticSegmentation):
        return _read(torchvision_steps.unfold_preset(found), found, origin, pixels)
    if isinstance(found, _CONTAINERS):
        return _read(torchvision_steps.flatten(found), found, origin, pixels)
    raise PreprocessingError(
        f"'{origin}': not a torchvision transform: expected a torchvision.transforms.Compose, "
        f"got {type(found).__module__}.{type(found).__name__}. Name the Compose itself."
    )


def read_preset(torchvision_name: str) -> TrainingTransform:
    """Return the transform that torchvision ships for the default weights of an architecture.

    Raises PreprocessingError when it ships none.
    """
    weights = torchvision.models.get_model_weights(torchvision_name)
    default = getattr(weights, "DEFAULT", None)
    if default is None:
        raise PreprocessingError(
            f"'{torchvision_name}': torchvision ships no transform for it. Pass yours with --preprocess FILE.py:NAME."
        )
    preset = default.transforms()
    if not isinstance(preset, ImageClassification | SemanticSegmentation):
        raise PreprocessingError(
            f"'{default}': its transform cannot be folded in: expected ImageClassification or SemanticSegmentation, "
            f"got {type(preset).__name__}. Pass yours with --preprocess FILE.py:NAME."
        )
    return _read(torchvision_steps.unfold_preset(preset), preset, str(default), assumed=True)


def read_timm(name: str) -> TrainingTransform:
    """Return the evaluation transform that timm makes of the ``pretrained_cfg`` of one of its architectures.

    Raises PreprocessingError when timm is not installed, does not know the name, or its transform cannot be folded in.
    """
    try:
        import timm
        from timm.data import create_transform, resolve_data_config
    except ModuleNotFoundError:
        raise PreprocessingError(f"'timm:{name}': timm is not installed. Run: pip install timm.") from None
    config = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if config is None:
        raise PreprocessingError(
            f"'timm:{name}': timm knows no such architecture. Check the name with timm.list_models."
        )
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=config.to_dict()), is_training=False)
    return _read(torchvision_steps.flatten(transform), transform, f"timm:{name}", assumed=True)


def read_hugging_face(folder: Path, *, backend: Backend = "torchvision", assumed: bool = True) -> TrainingTransform:
    """Return the transform of the ``preprocessor_config.json`` in a Hugging Face folder, on one of its two backends.

    Raises PreprocessingError when there is none, or it cannot be folded in.
    """
    origin = str(folder / CONFIG_NAME)
    if not (folder / CONFIG_NAME).is_file():
        raise PreprocessingError(f"'{origin}': no such file. Pass the transform with --preprocess FILE.py:NAME.")
    processor = read_processor(folder, backend)
    return TrainingTransform(
        steps=_preprocessing(processor.geometry, processor.arithmetic, origin),
        transform=processor.transform,
        prefixes=(Prefix(name="the processor", steps=len(processor.geometry), pixels=processor.pixels),),
        origin=origin,
        assumed=assumed,
    )


def _read(
    leaves: Sequence[torchvision_steps.LeafTransform],
    transform: Callable[[Image.Image], torch.Tensor],
    origin: str,
    pixel_format: PixelFormat = RGB,
    *,
    assumed: bool = False,
) -> TrainingTransform:
    """Return the reading of a transform that consists of ``leaves``."""
    parts = torchvision_steps.read_leaves(leaves, origin, pixel_format)
    before = leaves[: len(parts.after)]
    prefixes = [
        Prefix(
            name=f"{leaf.position}, '{type(leaf.transform).__name__}'",
            steps=parts.after[row],
            pixels=_pixels_of([leaf.transform for leaf in leaves[: row + 1]]),
        )
        for row, leaf in enumerate(before)
        if row == len(before) - 1 or parts.after[row] > (parts.after[row - 1] if row else 0)
    ]
    return TrainingTransform(
        steps=_preprocessing(parts.geometry, parts.arithmetic, origin, pixel_format.channels),
        transform=transform,
        prefixes=tuple(prefixes) or (Prefix(name="the image itself", steps=0, pixels=_pixels_of([])),),
        origin=origin,
        assumed=assumed,
    )


def _pixels_of(steps: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Pixels]:
    """Return the steps as one function from an image to its pixels, [height, width, channels]."""
    geometry = transforms.Compose(steps)

    def pixels(image: Image.Image | Pixels) -> Pixels:
        prepared = geometry(image)
        if isinstance(prepared, torch.Tensor):
            return prepared.permute(1, 2, 0).contiguous().numpy()
        array = np.asarray(prepared)
        return array if array.ndim == 3 else array[:, :, np.newaxis]

    return pixels


def _call(function: Callable[[], object], origin: str) -> object:
    try:
        return function()
    except Exception as error:  # the user's function may raise anything
        raise PreprocessingError(
            f"'{origin}': calling it without arguments failed: {type(error).__name__}: {error}. "
            "Name a transform, or a function without arguments that returns one."
        ) from error


def _preprocessing(
    geometry: tuple[GeometryStep, ...], arithmetic: tuple[ArithmeticStep, ...], origin: str, channels: int = 3
) -> Preprocessing:
    size: tuple[int, int] | None = None
    for step in geometry:
        match step:
            case CenterCrop():
                size = (step.height, step.width)
            case Resize():
                size = step.size if isinstance(step.size, tuple) else None
            case Pad():
                size = size and (size[0] + step.top + step.bottom, size[1] + step.left + step.right)
            case Grayscale():
                channels = step.channels
    for normalize in arithmetic:
        if isinstance(normalize, Normalize) and {len(normalize.mean), len(normalize.std)} - {1, channels}:
            raise PreprocessingError(
                f"'{origin}': Normalize has the wrong number of channels: expected {channels} values, "
                f"got a mean of {len(normalize.mean)} and a std of {len(normalize.std)}. Correct the transform."
            )
    height, width = size or (None, None)
    return Preprocessing(geometry=geometry, arithmetic=arithmetic, height=height, width=width, channels=channels)


def _describe(step: GeometryStep | ArithmeticStep) -> str:
    match step:
        case Resize():
            limit = f" up to {step.max_size}" if step.max_size else ""
            antialias = " antialias" if step.antialias and step.interpolation != "nearest" else ""
            whose = {"pillow": "", "torch": " of a tensor", "opencv": " as OpenCV"}[step.implementation]
            return f"Resize {_describe_size(step.size)}{limit} {step.interpolation}{antialias}{whose}"
        case CenterCrop():
            same = step.height == step.width
            fill = f" on {' '.join(map(str, step.fill))}" if any(step.fill) else ""
            return (f"CenterCrop {step.height}" if same else f"CenterCrop {step.height} x {step.width}") + fill
        case Pad():
            return f"Pad {step.mode} {step.left} {step.top} {step.right} {step.bottom}"
        case Grayscale():
            return f"Grayscale {step.channels}"
        case ToFloat():
            return "to float" if step.divisor == 1 else f"divide by {step.divisor:g}"
        case Normalize():
            mean, std = (" ".join(f"{value:g}" for value in values) for values in (step.mean, step.std))
            return f"Normalize mean {mean}, std {std}"


def _describe_size(size: int | tuple[int, int] | KeepRatio) -> str:
    if isinstance(size, int):
        return str(size)
    if isinstance(size, KeepRatio):
        return f"{size.side} {size.height} x {size.width}"
    return f"{size[0]} x {size[1]}"
