"""Reader of Hugging Face's ``preprocessor_config.json`` into the manifest's steps.

transformers' own processor reads the file and stays the reference. What it will do is read off its settings, provided
that its class leaves the steps of the base class as they are.

transformers has two of each processor: on torchvision, which resizes tensors, and on Pillow, formerly the "slow" one.
They give different pixels, and the file does not say which of the two a model was trained with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from exporter.architectures.hugging_face import load_auto
from exporter.errors import PreprocessingError
from exporter.inputs.image.plain_options import TransformParts
from exporter.inputs.image.steps.resize import PILLOW_FILTERS, axis_order, crop_fits
from runtime.manifest import (
    ArithmeticStep,
    CenterCrop,
    GeometryStep,
    Interpolation,
    Normalize,
    Resize,
    ToFloat,
)

CONFIG_NAME = "preprocessor_config.json"

Backend: TypeAlias = Literal["torchvision", "pil"]

# Pillow's numbers, which the file holds, for what each backend's resize can do.
_INTERPOLATIONS: dict[Backend, dict[int, Interpolation]] = {
    "torchvision": {2: "bilinear", 3: "bicubic"},
    "pil": PILLOW_FILTERS,
}

# The steps of transformers' base classes that the manifest can follow; a processor that overrides one does otherwise.
_STEPS = ("_preprocess", "process_image", "resize", "center_crop", "rescale", "normalize", "rescale_and_normalize")


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What a processor does, as steps, and the processor itself as two functions of a PIL image.

    ``transform`` gives float32 [channels, height, width], ``pixels`` uint8 [height, width, channels].
    """

    geometry: tuple[GeometryStep, ...]
    arithmetic: tuple[ArithmeticStep, ...]
    transform: Callable[[Image.Image], torch.Tensor]
    pixels: Callable[[Image.Image], NDArray[np.uint8]]


def read_processor(folder: Path, backend: Backend, changes: Mapping[str, Any], *, trust: bool) -> Processor:
    """Return the processor that transformers makes, on ``backend``, of the configuration in ``folder``.

    ``changes`` are settings that take the place of the configuration's. Python code of the folder runs only if
    ``trust`` is true. Raises PreprocessingError when transformers is not installed, cannot read it, or would do what
    cannot be folded in.
    """
    subject = f"'{folder / CONFIG_NAME}'"
    processor = _load(folder, subject, backend, changes, trust=trust)
    geometry: list[GeometryStep] = []
    resize = _resize(processor, subject, backend) if processor.do_resize else None
    if resize is not None:
        geometry.append(resize)
    if processor.do_center_crop:
        size = processor.crop_size
        crop = CenterCrop(height=int(size["height"]), width=int(size["width"]), rounding="down")
        if backend == "pil" and (resize is None or not crop_fits(resize, crop)):
            raise PreprocessingError(
                f"{subject}: 'crop_size' pads small images, on Pillow with one pixel more above: expected a 'size' of "
                f"at least {crop.height} x {crop.width}. Pass --preprocess FILE.py:NAME."
            )
        geometry.append(crop)
    if getattr(processor, "do_pad", None):
        raise PreprocessingError(f"{subject}: 'do_pad' cannot be folded in. Pass --preprocess FILE.py:NAME.")

    def run(image: Image.Image, **changes: bool) -> torch.Tensor:
        result: torch.Tensor = processor(images=image, return_tensors="pt", **changes)["pixel_values"][0]
        return result

    def pixels(image: Image.Image) -> NDArray[np.uint8]:
        prepared: NDArray[np.uint8] = run(image, do_rescale=False, do_normalize=False).permute(1, 2, 0).numpy()
        return prepared

    return Processor(geometry=tuple(geometry), arithmetic=_arithmetic(processor, backend), transform=run, pixels=pixels)


def settings_of(parts: TransformParts) -> tuple[Backend, dict[str, Any]]:
    """Return the backend and the settings of a processor that do what the user stated, for the file's others.

    Raises PreprocessingError for what no processor does.
    """
    backends: dict[str, Backend] = {"pillow": "pil", "torch": "torchvision"}
    if parts.resize_backend is not None and parts.resize_backend not in backends:
        raise PreprocessingError(
            f"--resize-backend {parts.resize_backend}: not one of transformers' processors: expected "
            f"{' or '.join(backends)}. Pass the whole transform with --preprocess FILE.py:NAME."
        )
    if parts.channels == "bgr":
        raise PreprocessingError(
            "--channels bgr: not one of transformers' settings. Pass the whole transform with --preprocess "
            "FILE.py:NAME."
        )
    settings: dict[str, Any] = {}
    if parts.resize is not None:
        exact = isinstance(parts.resize, tuple)
        settings |= {"do_resize": True, "size": _sides(parts.resize) if exact else {"shortest_edge": parts.resize}}
        settings |= {"do_center_crop": False} if exact else {}
    if parts.crop is not None:
        settings |= {"do_center_crop": True, "crop_size": _sides(parts.crop)}
    if parts.interpolation is not None:
        settings["resample"] = next(number for number, name in PILLOW_FILTERS.items() if name == parts.interpolation)
    for key, values in (("image_mean", parts.mean), ("image_std", parts.std)):
        settings |= {"do_normalize": True, key: list(values)} if values is not None else {}
    if parts.mean is not None and max(map(abs, parts.mean)) > 1:
        raise PreprocessingError(
            f"--mean {','.join(f'{value:g}' for value in parts.mean)}: in gray levels from 0 to 255, which the "
            "processor scales to 0-1. Divide it by 255."
        )
    return backends.get(parts.resize_backend or "torch", "torchvision"), settings


def _sides(size: int | tuple[int, int]) -> dict[str, int]:
    height, width = size if isinstance(size, tuple) else (size, size)
    return {"height": height, "width": width}


def _load(folder: Path, subject: str, backend: Backend, changes: Mapping[str, Any], *, trust: bool) -> Any:
    try:
        from transformers.image_processing_backends import PilBackend, TorchvisionBackend
    except ImportError:
        raise PreprocessingError(
            f"{subject}: needs transformers 5, which is not installed. Run: pip install 'truecopy[hf]'."
        ) from None
    processor = load_auto(
        "AutoImageProcessor",
        folder,
        trust=trust,
        error=PreprocessingError,
        problem=f"{subject}: transformers cannot read it",
        fix="Check the folder.",
        backend=backend,
        **changes,
    )
    kind = type(processor)
    base = TorchvisionBackend if backend == "torchvision" else PilBackend
    if not isinstance(processor, base):
        raise PreprocessingError(
            f"{subject}: '{kind.__name__}' cannot be folded in: expected one of transformers' {backend} processors. "
            "Pass --preprocess FILE.py:NAME."
        )
    own = [step for step in _STEPS if getattr(kind, step, None) is not getattr(base, step, None)]
    if own:
        raise PreprocessingError(
            f"{subject}: '{kind.__name__}' cannot be folded in: expected the usual steps, got its own "
            f"{', '.join(own)}. Pass --preprocess FILE.py:NAME."
        )
    return processor


def _resize(processor: Any, subject: str, backend: Backend) -> Resize:
    interpolation = _INTERPOLATIONS[backend].get(int(processor.resample))
    if interpolation is None:
        known = ", ".join(f"{number} ({name})" for number, name in _INTERPOLATIONS[backend].items())
        raise PreprocessingError(
            f"{subject}: 'resample' cannot be folded in: expected one of {known}, got {processor.resample}. "
            "Pass --preprocess FILE.py:NAME."
        )
    config = {key: value for key, value in dict(processor.size).items() if value}
    if config.keys() == {"shortest_edge"}:
        size: int | tuple[int, int] = int(config["shortest_edge"])
    elif config.keys() == {"height", "width"}:
        size = (int(config["height"]), int(config["width"]))
    else:
        raise PreprocessingError(
            f"{subject}: 'size' cannot be folded in: expected 'shortest_edge', or 'height' and 'width', got {config}. "
            "Pass --preprocess FILE.py:NAME."
        )
    if backend == "pil":
        return Resize(size=size, interpolation=interpolation, axis_order=axis_order())
    return Resize(size=size, interpolation=interpolation, axis_order="horizontal_first", implementation="torch")


def _arithmetic(processor: Any, backend: Backend) -> tuple[ArithmeticStep, ...]:
    """Return the steps; on torchvision, transformers fuses them: mean and deviation in gray levels, in float32."""
    if not processor.do_rescale and not processor.do_normalize:
        return (ToFloat(divisor=1.0),)
    levels = 1.0 / processor.rescale_factor if processor.do_rescale else 1.0
    if not processor.do_normalize:
        return (ToFloat(divisor=levels),)
    mean, std = _per_channel(processor.image_mean), _per_channel(processor.image_std)
    if backend == "pil":
        return (ToFloat(divisor=levels), Normalize(mean=mean, std=std))
    mean, std = (tuple((torch.tensor(values) * levels).tolist()) for values in (mean, std))
    return (ToFloat(divisor=1.0), Normalize(mean=mean, std=std))


def _per_channel(values: float | Sequence[float]) -> tuple[float, ...]:
    """Return a mean or deviation, which may be one number for all channels, as the manifest has it."""
    return (float(values),) if isinstance(values, int | float) else tuple(map(float, values))
