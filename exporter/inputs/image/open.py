"""Image adapter of an export: its pixel format and its training transform."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from exporter.architectures import HUGGING_FACE, TIMM
from exporter.architectures.rebuild import RebuiltNetwork
from exporter.architectures.transformers_config import config_of
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
)
from exporter.inputs.image.adapter import ImageAdapter, Loader
from exporter.inputs.image.hugging_face import CONFIG_NAME, settings_of
from exporter.inputs.image.plain_options import (
    TransformParts,
    change_parts,
    check_no_frame,
    list_changes,
    parts_of_options,
    transform_of_parts,
)
from exporter.inputs.image.stated import read_library, read_stated, stating_advice
from exporter.inputs.image.step_module import RewriteError
from exporter.inputs.kind import InputKind
from exporter.inputs.tensor.open import array_to_bytes
from exporter.options.export import ExportOptions
from runtime.artifact.open import Artifact
from runtime.manifest import ImageInput


def matches(_options: ExportOptions, _rebuilt: RebuiltNetwork) -> bool:
    """Return True: a network whose inputs are not described takes images."""
    return True


def open_adapter(options: ExportOptions, rebuilt: RebuiltNetwork) -> ImageAdapter:
    """Return the adapter with the transform that the user gave, or that comes with the architecture.

    Raises PreprocessingError where there is neither.
    """
    if options.truncated and options.pixel_format not in (None, "RGB", "L"):
        raise PreprocessingError(
            f"--truncated: is for photos, and --pixel-format {options.pixel_format} reads bands, which are refused "
            "where their file ends too early. Leave one of them out."
        )
    pixels, transform = _read_pixels(options, rebuilt)
    config = config_of(rebuilt.network)
    loader = Loader(exif=bool(options.exif), truncated=bool(options.truncated))
    return ImageAdapter(transform, pixels, loader, samples=options.samples, config=config)


def complete_options(options: ExportOptions, spec: ImageInput, _artifact: Artifact) -> ExportOptions:
    """Return ``options`` with the pixel format and the EXIF rotation of an artifact's input."""
    pixel_format = f"{spec.dtype}[{spec.channels}]" if spec.mode == "bands" else spec.mode
    exif = spec.exif if options.exif is None else options.exif
    truncated = spec.truncated if options.truncated is None else options.truncated
    return replace(options, exif=exif, truncated=truncated, pixel_format=options.pixel_format or pixel_format)


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
    """Return the user's transform; or the one that comes with the architecture, with the parts that options state."""
    stated = parts_of_options(options)
    if options.preprocess is not None and stated.stated:
        return read_stated(options.preprocess, stated, pixels, exif=bool(options.exif), trust=options.trust)
    if options.preprocess is not None:
        try:
            library = read_library(options.preprocess, pixels, trust=options.trust)
            return library or read_transform(options.preprocess, pixels, trust=options.trust)
        except PreprocessingError as error:
            equal = isinstance(error, RewriteError)
            stating = pixels == RGB and stating_advice(options.preprocess, trust=options.trust, only_equal=equal)
            raise PreprocessingError(f"{error}{stating or ''}") from error
    if rebuilt.reference.startswith(HUGGING_FACE):
        return _read_processor(Path(rebuilt.reference.removeprefix(HUGGING_FACE)), stated, pixels, trust=options.trust)
    if not stated.stated:
        return _assume_transform(rebuilt, pixels)
    try:
        assumed: TrainingTransform | None = _assume_transform(rebuilt, RGB)
    except PreprocessingError:  # there is none, or none that can be followed: what is stated stands alone, and says so
        assumed = None
    if assumed is not None:
        changed = change_parts(assumed.steps, assumed.origin, stated)
        transform = read_transform(transform_of_parts(changed.parts), pixels)
        check_no_frame(transform.steps, assumed.origin, stated)
        changes = "".join(f", {change}" for change in changed.changes)
        return replace(transform, origin=assumed.origin, restated=f"{assumed.restated}{changes}")
    return replace(read_transform(transform_of_parts(stated), pixels), restated="stated by options")


def _assume_transform(rebuilt: RebuiltNetwork, pixels: PixelFormat) -> TrainingTransform:
    """Return the transform that a library has for the architecture."""
    if rebuilt.reference.startswith(TIMM):
        return read_timm(rebuilt.reference.removeprefix(TIMM), pixels)
    if not rebuilt.torchvision_name:
        raise PreprocessingError(
            f"'{rebuilt.reference}': no transform is known for it. Pass the one that you evaluate with: "
            "--preprocess FILE.py:NAME; or describe its arrays with --input 'x=float32[batch,3,28,28]'."
        )
    return read_preset(rebuilt.torchvision_name, pixels)


def _read_processor(folder: Path, stated: TransformParts, pixels: PixelFormat, *, trust: bool) -> TrainingTransform:
    """Return the transform of a Hugging Face folder, by transformers itself, with the settings that options state."""
    backend, changes = settings_of(stated)
    try:
        transform = read_hugging_face(folder, pixels, backend=backend, changes=changes, trust=trust)
    except PreprocessingError as error:
        reference = f"{folder / CONFIG_NAME}{':pil' if backend == 'pil' else ''}"
        advice = stating_advice(reference, trust=trust) if pixels == RGB and not stated.stated else ""
        raise PreprocessingError(f"{error}{advice}") from error
    check_no_frame(transform.steps, transform.origin, stated)
    return replace(transform, restated=", ".join([transform.restated, *list_changes(stated, {})]))


KIND = InputKind(
    matches=matches,
    open_adapter=open_adapter,
    complete_options=complete_options,
    to_bytes=to_bytes,
)
