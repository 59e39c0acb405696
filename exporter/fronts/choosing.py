"""Which input kind a network takes: what the user said, or what its architecture is for."""

from pathlib import Path

from torch import nn

from exporter.architectures.rebuilding import Rebuilt
from exporter.errors import PreprocessingError
from exporter.forward import call
from exporter.fronts.images import ImageFront
from exporter.fronts.protocol import Front
from exporter.fronts.tensors import TensorFront, read_input
from exporter.preprocessing import (
    GRAY,
    HUGGING_FACE,
    RGB,
    TIMM,
    PixelFormat,
    Reading,
    read_hugging_face,
    read_pixel_format,
    read_preset,
    read_timm,
    read_transform,
)
from exporter.recipe import Recipe


def open_front(recipe: Recipe, rebuilt: Rebuilt) -> Front:
    """Return what stands before the network: arrays where the user described some, and images otherwise.

    Raises ExportError when what the user gave cannot be read.
    """
    if recipe.inputs:
        if recipe.preprocess is not None:
            raise PreprocessingError(
                "--input and --preprocess: describe the same thing: expected one of them. Arrays go to the network as "
                "they are; leave out one."
            )
        specs = [read_input(text) for text in recipe.inputs]
        return TensorFront(specs, samples=recipe.samples, probe=lambda tensors: call(rebuilt.network, tensors))
    pixels, reading = _read_pixels(recipe, rebuilt)
    return ImageFront(reading, pixels, exif=recipe.exif, samples=recipe.samples)


def _read_pixels(recipe: Recipe, rebuilt: Rebuilt) -> tuple[PixelFormat, Reading]:
    """Return what the transform gets, and the transform: as asked for, or gray where the network takes one channel."""
    if recipe.image_mode is not None:
        pixels = read_pixel_format(recipe.image_mode)
        return pixels, _read_transform(recipe, rebuilt, pixels)
    first = next((module for module in rebuilt.network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels == 1 and not _makes_gray(recipe, rebuilt):
        return GRAY, _read_transform(recipe, rebuilt, GRAY)
    return RGB, _read_transform(recipe, rebuilt, RGB)


def _makes_gray(recipe: Recipe, rebuilt: Rebuilt) -> bool:
    """Return whether the transform itself makes one channel of RGB images."""
    try:
        return _read_transform(recipe, rebuilt, RGB).steps.channels == 1
    except PreprocessingError:  # such as a mean of one value, which fits gray images alone
        return False


def _read_transform(recipe: Recipe, rebuilt: Rebuilt, pixels: PixelFormat) -> Reading:
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
