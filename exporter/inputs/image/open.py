"""Image adapter of an export: its pixel format and its training transform."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.errors import PreprocessingError
from exporter.inputs.image import (
    GRAY,
    HUGGING_FACE,
    RGB,
    TIMM,
    PixelFormat,
    TrainingTransform,
    read_hugging_face,
    read_pixel_format,
    read_preset,
    read_timm,
    read_transform,
)
from exporter.inputs.image.adapter import ImageAdapter
from exporter.inputs.kind import InputKind
from exporter.inputs.tensor.open import array_to_bytes
from exporter.recipe import Recipe
from runtime.artifact.open import Artifact
from runtime.manifest import ImageInput


def matches(_recipe: Recipe, _rebuilt: RebuiltNetwork) -> bool:
    """Return True: a network whose inputs are not described takes images."""
    return True


def open_adapter(recipe: Recipe, rebuilt: RebuiltNetwork) -> ImageAdapter:
    """Return the adapter with the transform that the user gave, or that comes with the architecture.

    Raises PreprocessingError where there is neither.
    """
    pixels, transform = _read_pixels(recipe, rebuilt)
    return ImageAdapter(transform, pixels, exif=recipe.exif, samples=recipe.samples)


def complete_recipe(recipe: Recipe, spec: ImageInput, _artifact: Artifact) -> Recipe:
    """Return ``recipe`` with the pixel format and the EXIF rotation of an artifact's input."""
    pixel_format = f"{spec.dtype}[{spec.channels}]" if spec.mode == "bands" else spec.mode
    return replace(recipe, exif=recipe.exif or spec.exif, pixel_format=recipe.pixel_format or pixel_format)


def to_bytes(source: Any, spec: ImageInput, _subject: str) -> bytes:
    """Return pixels as an .npy file."""
    return array_to_bytes(source, spec.dtype)


def _read_pixels(recipe: Recipe, rebuilt: RebuiltNetwork) -> tuple[PixelFormat, TrainingTransform]:
    """Return what the transform gets, and the transform: as asked for, or gray where the network takes one channel."""
    if recipe.pixel_format is not None:
        pixels = read_pixel_format(recipe.pixel_format)
        return pixels, _read_transform(recipe, rebuilt, pixels)
    first = next((module for module in rebuilt.network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels == 1 and not _makes_gray(recipe, rebuilt):
        return GRAY, _read_transform(recipe, rebuilt, GRAY)
    return RGB, _read_transform(recipe, rebuilt, RGB)


def _makes_gray(recipe: Recipe, rebuilt: RebuiltNetwork) -> bool:
    """Return whether the transform itself makes one channel of RGB images."""
    try:
        return _read_transform(recipe, rebuilt, RGB).steps.channels == 1
    except PreprocessingError:  # such as a mean of one value, which fits gray images alone
        return False


def _read_transform(recipe: Recipe, rebuilt: RebuiltNetwork, pixels: PixelFormat) -> TrainingTransform:
    if recipe.preprocess is not None:
        return read_transform(recipe.preprocess, pixels)
    if rebuilt.reference.startswith(TIMM):
        return read_timm(rebuilt.reference.removeprefix(TIMM))
    if rebuilt.reference.startswith(HUGGING_FACE):
        return read_hugging_face(Path(rebuilt.reference.removeprefix(HUGGING_FACE)))
    if not rebuilt.torchvision_name:
        raise PreprocessingError(
            f"'{rebuilt.reference}': no transform is known for it. Pass the one that you evaluate with: "
            "--preprocess FILE.py:NAME; or describe its arrays with --input 'x=float32[batch,3,28,28]'."
        )
    return read_preset(rebuilt.torchvision_name)


KIND = InputKind(
    matches=matches,
    open_adapter=open_adapter,
    complete_recipe=complete_recipe,
    to_bytes=to_bytes,
)
