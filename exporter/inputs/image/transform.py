"""Training transforms: the manifest's steps, and the untouched reference to compare with."""

import inspect
from collections.abc import Callable, Mapping, Sequence
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
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation, VideoClassification

from exporter.architectures import TIMM
from exporter.errors import PreprocessingError
from exporter.inputs.image.hugging_face import CONFIG_NAME, backend_of, is_timm, load_processor, read_processor
from exporter.inputs.image.pixel_format import RGB, PixelFormat
from exporter.inputs.image.processors import Backend
from exporter.inputs.image.registry import STEPS
from exporter.inputs.image.step_module import RewriteError
from exporter.inputs.image.steps.normalize import check_channels
from exporter.inputs.image.torchvision_reader import (
    LeafTransform,
    channels_after,
    crops_first,
    flatten,
    read_leaves,
    unfold_preset,
)
from exporter.inputs.image.user_callable import required_parameters
from exporter.object_path import is_reference, load_object
from runtime.errors import listed
from runtime.geometry.arrays import Pixels
from runtime.geometry.images import to_array
from runtime.geometry.registry import STEPS as GEOMETRY_STEPS
from runtime.geometry.sizes import PreparedShape
from runtime.manifest import ArithmeticStep, GeometryStep, Normalize, Preprocessing

_CONTAINERS = (transforms.Compose, v2.Compose, nn.Sequential)


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """The transform up to one of its steps, as ``2 of 4, 'CenterCrop'``; ``steps`` are as many of the manifest's."""

    name: str
    steps: int
    pixels: Callable[[Any], Pixels]


@dataclass(frozen=True, kw_only=True)
class TrainingTransform:
    """A training transform as the manifest's steps, and the transform itself.

    ``transform`` takes a PIL image, or an array of bands, and gives the network's input, float32 [channels, height,
    width]. ``prefixes`` are its parts before the arithmetic, each one step longer, if it can be taken apart; ``pixels``
    is the longest: [height, width, channels]. ``restated`` says in words where it is from if it is not the user's own
    object: what it was assumed from and what options changed of that, or that options alone state it.

    ``called_with`` says what a user's own function takes whose steps are stated; then ``transform`` and ``pixels`` take
    the bytes of a file as well, which such a function may decode itself. ``other_formats`` are the names of cases that
    it decodes otherwise than Pillow.
    """

    steps: Preprocessing
    transform: Callable[[Any], torch.Tensor]
    prefixes: tuple[Prefix, ...]
    origin: str
    restated: str = ""
    called_with: str = ""
    other_formats: tuple[str, ...] = ()

    @property
    def not_compared(self) -> tuple[str, ...]:
        """A sentence on what a user's own function leaves to its loader, or decodes otherwise than Pillow."""
        if self.called_with and not self.decodes:
            return (f"the loader that gives '{self.origin}' its {self.called_with}: these were of Pillow's images",)
        names = listed([repr(name) for name in self.other_formats])
        return (f"what '{self.origin}' decodes otherwise: {names}",) if names else ()

    @property
    def decodes(self) -> bool:
        """Whether ``transform`` decodes files itself."""
        return "file" in self.called_with

    @property
    def pixels(self) -> Callable[[Any], Pixels]:
        """The transform without its arithmetic."""
        return self.prefixes[-1].pixels

    def describe(self) -> str:
        """Return the steps as one line for people."""
        steps = ", ".join(STEPS[type(step)].describe(step) for step in (*self.steps.geometry, *self.steps.arithmetic))
        called = f"'{self.origin}', called with {self.called_with}, is held against " if self.called_with else ""
        return f"{called}{steps}"


def read_transform(
    preprocess: str | Callable[..., Any], pixels: PixelFormat = RGB, *, trust: bool = False
) -> TrainingTransform:
    """Return the transform that ``preprocess`` is, or names, for images of the format ``pixels``.

    Names are ``FILE.py:NAME``, ``package.module:NAME``, ``timm:NAME``, ``FOLDER/preprocessor_config.json`` and, for
    transformers' processor on Pillow, ``FOLDER/preprocessor_config.json:pil``; what they stand for is a torchvision
    Compose or nn.Sequential, of version 1 or 2, nested or not; a preset of ``Weights.transforms()``; or a function
    without arguments that returns one. Raises PreprocessingError with a step's name and position when it cannot be
    folded in.
    """
    origin = preprocess if isinstance(preprocess, str) else type(preprocess).__name__
    transform: object = preprocess
    if isinstance(preprocess, str):
        if preprocess.startswith(TIMM):
            return replace(read_timm(preprocess.removeprefix(TIMM), pixels), restated="")
        processor = backend_of(preprocess)
        if processor is not None:
            folder, backend = processor
            return replace(read_hugging_face(folder, pixels, backend=backend, trust=trust), restated="")
        if not is_reference(preprocess):
            raise PreprocessingError(
                f"'{preprocess}': not a reference: expected 'FILE.py:NAME' or 'package.module:NAME'. "
                "Name the transform that the model was evaluated with."
            )
        transform = load_object(preprocess, error=PreprocessingError)
    transform = _made_by(transform, origin)
    if isinstance(transform, ImageClassification | SemanticSegmentation):
        return _read(unfold_preset(transform), transform, origin, pixels)
    if isinstance(transform, _CONTAINERS):
        return _read(flatten(transform), transform, origin, pixels)
    raise PreprocessingError(
        f"'{origin}': not a torchvision transform: expected a torchvision.transforms.Compose, "
        f"got {type(transform).__module__}.{type(transform).__name__}. Name the Compose itself."
    )


def _made_by(transform: object, origin: str) -> object:
    """Return what a function or class without parameters gives, and any other transform itself.

    Raises PreprocessingError for a dictionary, and for a function that takes values or an image.
    """
    if isinstance(transform, Mapping):
        entries = [f"'{origin}[\"{key}\"]'" for key, entry in transform.items() if callable(entry)]
        raise RewriteError(f"'{origin}': a dictionary: expected one transform. Name one of {listed(entries)}.")
    if not inspect.isfunction(transform) and not inspect.isclass(transform):
        return transform
    takes = required_parameters(transform)
    if takes and _makes_transforms(transform, len(takes)):
        values = ", ".join(f"{parameter.name}={'False' if 'train' in parameter.name else '...'}" for parameter in takes)
        raise RewriteError(
            f"'{origin}': takes {listed([repr(parameter.name) for parameter in takes])} and returns a transform. Name "
            f"the call, with the values of evaluation: --preprocess '{origin}({values})'."
        )
    if takes:
        raise PreprocessingError(
            f"'{origin}': a function of an image cannot be read: expected a torchvision.transforms.Compose, or a "
            "function without arguments that returns one. Name that, if it is made of such steps."
        )
    return _call(transform, origin)


def _makes_transforms(function: Any, parameters: int) -> bool:
    """Return whether a function of values that are no image, such as ``train``, returns a transform."""
    try:
        return isinstance(function(*[False] * parameters), _CONTAINERS)
    except Exception:  # the user's function may raise anything
        return False


def read_parts(compose: Any, origin: str, pixels: PixelFormat) -> TrainingTransform:
    """Return the steps of a Compose of another library than torchvision, executed by this project's own code.

    Raises PreprocessingError for the first part that cannot be folded in.
    """
    read = read_leaves(flatten(compose), origin, pixels)
    steps = _preprocessing(read.geometry, read.arithmetic, origin, pixels.channels)
    arithmetic = [STEPS[type(step)].to_module(step) for step in steps.arithmetic]

    def run_geometry(image: Image.Image) -> Pixels:
        for step in steps.geometry:
            image = GEOMETRY_STEPS[type(step)].run_on_image(image, step)
        return to_array(image)

    def run(image: Image.Image) -> torch.Tensor:
        values = torch.from_numpy(run_geometry(image).copy()).permute(2, 0, 1).to(torch.float32)
        for module in arithmetic:
            values = module(values.unsqueeze(0))[0]
        return values

    prefix = Prefix(name="the whole", steps=len(steps.geometry), pixels=run_geometry)
    return TrainingTransform(steps=steps, transform=run, prefixes=(prefix,), origin=origin)


def read_preset(torchvision_name: str, pixels: PixelFormat = RGB) -> TrainingTransform:
    """Return the transform that torchvision ships for the default weights of an architecture.

    Raises PreprocessingError when it ships none, or one that does not fit ``pixels``.
    """
    weights = torchvision.models.get_model_weights(torchvision_name)
    default = getattr(weights, "DEFAULT", None)
    if default is None:
        raise PreprocessingError(
            f"'{torchvision_name}': torchvision ships no transform for it. Pass yours with --preprocess FILE.py:NAME."
        )
    preset = default.transforms()
    if isinstance(preset, VideoClassification):
        raise PreprocessingError(
            f"'{default}': its transform is of videos: expected one of single images. Prepare the clips before the "
            "artifact, and describe its arrays with --input, as --input 'clip=float32[batch,3,16,112,112]'."
        )
    if not isinstance(preset, ImageClassification | SemanticSegmentation):
        raise PreprocessingError(
            f"'{default}': its transform cannot be folded in: expected ImageClassification or SemanticSegmentation, "
            f"got {type(preset).__name__}. Pass yours with --preprocess FILE.py:NAME."
        )
    return _read(unfold_preset(preset), preset, str(default), pixels, assumed=True)


def read_timm(name: str, pixels: PixelFormat = RGB) -> TrainingTransform:
    """Return the evaluation transform that timm makes of the ``pretrained_cfg`` of one of its architectures.

    Raises PreprocessingError when timm is not installed, does not know the name, or its transform cannot be folded in.
    """
    try:
        import timm
        from timm.data import create_transform, resolve_data_config
    except ModuleNotFoundError:
        raise PreprocessingError(f"'{TIMM}{name}': timm is not installed. Run: pip install 'truecopy[timm]'.") from None
    config = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if config is None:
        raise PreprocessingError(
            f"'{TIMM}{name}': timm knows no such architecture. Check the name with timm.list_models."
        )
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=config.to_dict()), is_training=False)
    return _read(flatten(transform), transform, f"{TIMM}{name}", pixels, assumed=True)


def read_hugging_face(
    folder: Path,
    pixels: PixelFormat = RGB,
    *,
    backend: Backend = "torchvision",
    changes: Mapping[str, Any] = {},
    trust: bool = False,
) -> TrainingTransform:
    """Return the transform of the ``preprocessor_config.json`` in a Hugging Face folder, on one of its two backends.

    ``changes`` are settings of the processor that take the place of the file's. Python code of the folder runs only if
    ``trust`` is true. Raises PreprocessingError when there is none, or it cannot be folded in.
    """
    if is_timm(folder):
        # timm's own transform, which transformers reads from the network's configuration.
        transform = load_processor(folder, backend, changes, trust=trust).val_transforms
        return _read(flatten(transform), transform, str(folder / "config.json"), pixels, assumed=True)
    origin = str(folder / CONFIG_NAME)
    if not (folder / CONFIG_NAME).is_file():
        raise PreprocessingError(f"'{origin}': no such file. Pass the transform with --preprocess FILE.py:NAME.")
    processor = read_processor(folder, pixels, backend, changes, trust=trust)
    return TrainingTransform(
        steps=_preprocessing(processor.geometry, processor.arithmetic, origin, pixels.channels),
        transform=processor.transform,
        prefixes=(Prefix(name="the processor", steps=len(processor.geometry), pixels=processor.pixels),),
        origin=origin,
        restated=f"assumed, from {origin}",
    )


def _read(
    leaves: Sequence[LeafTransform],
    transform: Callable[[Image.Image], torch.Tensor],
    origin: str,
    pixel_format: PixelFormat,
    *,
    assumed: bool = False,
) -> TrainingTransform:
    """Return a transform that consists of ``leaves``, read."""
    leaves = crops_first(leaves)
    read = read_leaves(leaves, origin, pixel_format)
    counts = read.geometry_counts
    prefixes = [
        Prefix(
            name=f"{leaf.position}, '{type(leaf.transform).__name__}'",
            steps=counts[index],
            pixels=_pixels_of([leaf.transform for leaf in leaves[: index + 1]]),
        )
        for index, leaf in enumerate(leaves[: len(counts)])
        if index == len(counts) - 1 or counts[index] > (counts[index - 1] if index else 0)
    ]
    return TrainingTransform(
        steps=_preprocessing(read.geometry, read.arithmetic, origin, pixel_format.channels),
        transform=transform,
        prefixes=tuple(prefixes) or (Prefix(name="the image itself", steps=0, pixels=_pixels_of([])),),
        origin=origin,
        restated=f"assumed, from {origin}" if assumed else "",
    )


def _pixels_of(leaf_transforms: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Pixels]:
    """Return transforms as one function from an image to its pixels, [height, width, channels]."""
    geometry = transforms.Compose(leaf_transforms)

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
    geometry: tuple[GeometryStep, ...], arithmetic: tuple[ArithmeticStep, ...], origin: str, channels: int
) -> Preprocessing:
    shape = PreparedShape(size=None, channels=channels)
    for step in geometry:
        shape = GEOMETRY_STEPS[type(step)].shape_after(shape, step)
    channels = shape.channels
    for operation in arithmetic:
        if isinstance(operation, Normalize):
            check_channels(operation, channels, origin)
        channels = channels_after(channels, operation)
    height, width = shape.size or (None, None)
    return Preprocessing(geometry=geometry, arithmetic=arithmetic, height=height, width=width, channels=shape.channels)
