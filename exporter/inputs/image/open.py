"""Image adapter of an export: its pixel format and its training transform."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from exporter.architectures import HUGGING_FACE, TIMM
from exporter.architectures.rebuild import RebuiltNetwork
from exporter.errors import PreprocessingError
from exporter.inputs.image import (
    GRAY,
    RGB,
    PixelFormat,
    TrainingTransform,
    read_hugging_face,
    read_pixel_format,
    read_preset,
    read_timm,
    read_transform,
    transform_of_options,
)
from exporter.inputs.image.adapter import ImageAdapter
from exporter.inputs.kind import InputKind
from exporter.inputs.tensor.open import array_to_bytes
from exporter.recipe import ExportOptions
from runtime.artifact.open import Artifact
from runtime.manifest import ImageInput


def matches(_options: ExportOptions, _rebuilt: RebuiltNetwork) -> bool:
    """Return True: a network whose inputs are not described takes images."""
    return True


def open_adapter(options: ExportOptions, rebuilt: RebuiltNetwork) -> ImageAdapter:
    """Return the adapter with the transform that the user gave, or that comes with the architecture.

    Raises PreprocessingError where there is neither.
    """
    pixels, transform = _read_pixels(options, rebuilt)
    stated = options.preprocess is None and options.spells_out_transform
    return ImageAdapter(transform, pixels, exif=bool(options.exif), samples=options.samples, stated=stated)


def complete_options(options: ExportOptions, spec: ImageInput, _artifact: Artifact) -> ExportOptions:
    """Return ``options`` with the pixel format and the EXIF rotation of an artifact's input."""
    pixel_format = f"{spec.dtype}[{spec.channels}]" if spec.mode == "bands" else spec.mode
    exif = spec.exif if options.exif is None else options.exif
    return replace(options, exif=exif, pixel_format=options.pixel_format or pixel_format)


def to_bytes(source: Any, spec: ImageInput, _subject: str) -> bytes:
    """Return pixels as an .npy file."""
    return array_to_bytes(source, spec.dtype)


def _read_pixels(options: ExportOptions, rebuilt: RebuiltNetwork) -> tuple[PixelFormat, TrainingTransform]:
    """Return what the transform gets, and the transform: as asked for, or gray where the network takes one channel."""
    if options.pixel_format is not None:
        pixels = read_pixel_format(options.pixel_format)
        return pixels, _read_transform(options, rebuilt, pixels)
    first = next((module for module in rebuilt.network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels == 1 and not _makes_gray(options, rebuilt):
        return GRAY, _read_transform(options, rebuilt, GRAY)
    return RGB, _read_transform(options, rebuilt, RGB)


def _makes_gray(options: ExportOptions, rebuilt: RebuiltNetwork) -> bool:
    """Return whether the transform itself makes one channel of RGB images."""
    try:
        return _read_transform(options, rebuilt, RGB).steps.channels == 1
    except PreprocessingError:  # such as a mean of one value, which fits gray images alone
        return False


def _read_transform(options: ExportOptions, rebuilt: RebuiltNetwork, pixels: PixelFormat) -> TrainingTransform:
    if options.preprocess is not None:
        return read_transform(options.preprocess, pixels)
    if options.spells_out_transform:
        transform = transform_of_options(
            resize=options.resize,
            crop=options.crop,
            mean=options.mean,
            std=options.std,
            interpolation=options.interpolation,
            resize_backend=options.resize_backend,
        )
        return read_transform(transform, pixels)
    if rebuilt.reference.startswith(TIMM):
        return read_timm(rebuilt.reference.removeprefix(TIMM), pixels)
    if rebuilt.reference.startswith(HUGGING_FACE):
        return read_hugging_face(Path(rebuilt.reference.removeprefix(HUGGING_FACE)), pixels)
    if not rebuilt.torchvision_name:
        raise PreprocessingError(
            f"'{rebuilt.reference}': no transform is known for it. Pass the one that you evaluate with: "
            "--preprocess FILE.py:NAME; or describe its arrays with --input 'x=float32[batch,3,28,28]'."
        )
    return read_preset(rebuilt.torchvision_name, pixels)


KIND = InputKind(
    matches=matches,
    open_adapter=open_adapter,
    complete_options=complete_options,
    to_bytes=to_bytes,
)
