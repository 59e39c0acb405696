"""Reader of Hugging Face's ``preprocessor_config.json`` into the manifest's steps.

transformers' own processor reads the file and stays the reference. What it will do is read off its settings, and held
against what it gives for a few images at once, so that another release of transformers cannot make it wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from exporter.architectures.hugging_face import load_auto
from exporter.errors import PreprocessingError, first_line
from exporter.inputs.image.made_images import Drawing
from exporter.inputs.image.pixel_format import PixelFormat
from exporter.inputs.image.plain_options import TransformParts
from exporter.inputs.image.processors import Backend, Settings, channel_order, geometry_of, kind_of
from exporter.inputs.image.registry import STEPS
from exporter.inputs.image.steps.resize import PILLOW_FILTERS
from runtime.geometry.preparation import prepare
from runtime.manifest import ArithmeticStep, GeometryStep

CONFIG_NAME = "preprocessor_config.json"

# Settings that leave a processor's pixels as they are once the geometry is done; each takes those that it has.
_PLAIN = ("do_rescale", "do_normalize", "include_top", "do_color_quantize")

_DRAWINGS = (
    Drawing(size=(427, 640), pattern="noise"),
    Drawing(size=(301, 255), pattern="waves"),
    Drawing(size=(96, 61), pattern="ramps"),
)

# Largest accepted difference of the arithmetic, in shares of the largest value: float32's own rounding is a hundredth.
_TOLERANCE = 1e-5

# Largest accepted share of pixels that are between two colors.
_TIES = 1e-3


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What a processor does, as steps, and the processor itself as two functions of a PIL image.

    ``transform`` gives float32 [channels, height, width], ``pixels`` uint8 [height, width, channels].
    """

    geometry: tuple[GeometryStep, ...]
    arithmetic: tuple[ArithmeticStep, ...]
    transform: Callable[[Image.Image], torch.Tensor]
    pixels: Callable[[Image.Image], NDArray[np.uint8]]


def backend_of(reference: str) -> tuple[Path, Backend] | None:
    """Return the folder and the backend of ``FOLDER/preprocessor_config.json``, with ``:pil`` behind it or not.

    None for any other reference.
    """
    path, separator, backend = reference.partition(f"{CONFIG_NAME}:")
    if separator and backend == "pil":
        return Path(path), "pil"
    return (Path(reference).parent, "torchvision") if Path(reference).name == CONFIG_NAME else None


def read_processor(
    folder: Path, pixels: PixelFormat, backend: Backend, changes: Mapping[str, Any], *, trust: bool
) -> Processor:
    """Return the processor that transformers makes, on ``backend``, of the configuration in ``folder``.

    ``changes`` are settings that take the place of the configuration's. Python code of the folder runs only if
    ``trust`` is true. Raises PreprocessingError when transformers is not installed, cannot read it, or would do what
    cannot be folded in.
    """
    subject = f"'{folder / CONFIG_NAME}'"
    processor = load_processor(folder, backend, changes, trust=trust)
    kind = kind_of(processor, _base_of(processor, backend, subject), subject)
    run = as_function(processor)
    image: Any = _DRAWINGS[0].draw(pixels).source()
    try:
        run(image)
    except Exception as error:  # whatever a processor raises for its own settings
        raise PreprocessingError(
            f"{subject}: transformers' {type(processor).__name__} fails on an image: {first_line(error)}. Correct the "
            "file, or pass --preprocess FILE.py:NAME."
        ) from error
    settings = Settings(processor=processor, backend=backend, subject=subject, ignored=kind.ignored)
    geometry, arithmetic = geometry_of(kind, settings), tuple(kind.arithmetic(settings))
    order = channel_order(arithmetic)
    plain = as_function(processor, **{name: False for name in _PLAIN if hasattr(processor, name)})

    def own_pixels(image: Image.Image) -> NDArray[np.uint8]:
        values = plain(image)
        values = values if order is None else values[[order.index(channel) for channel in range(len(order))]]
        prepared: NDArray[np.uint8] = values.permute(1, 2, 0).contiguous().numpy()
        return prepared

    read = Processor(geometry=geometry, arithmetic=arithmetic, transform=run, pixels=own_pixels)
    _check(read, pixels, subject, type(processor).__name__)
    return read


def is_timm(folder: Path) -> bool:
    """Return whether a folder holds one of timm's networks, whose processor is read from the network's settings."""
    config = folder / "config.json"
    return not (folder / CONFIG_NAME).is_file() and config.is_file() and "pretrained_cfg" in config.read_text("utf-8")


def as_function(processor: Any, **changes: bool) -> Callable[[Image.Image], torch.Tensor]:
    """Return a processor as a function from an image to its tensor, [channels, height, width].

    ImageGPT's gives a color's index for each pixel, int64 [pixels].
    """

    def process(image: Image.Image) -> torch.Tensor:
        results = processor(images=image, return_tensors="pt", **changes)
        result: torch.Tensor = results["pixel_values" if "pixel_values" in results else "input_ids"][0]
        return result

    return process


def load_processor(folder: Path, backend: Backend, changes: Mapping[str, Any] = {}, *, trust: bool) -> Any:
    """Return transformers' own object; raise PreprocessingError where there is none."""
    subject = f"'{folder / CONFIG_NAME}'"
    try:
        import transformers.image_processing_backends  # noqa: F401  of version 5
    except ImportError:
        raise PreprocessingError(
            f"{subject}: needs transformers 5, which is not installed. Run: pip install 'truecopy[hf]'."
        ) from None
    return load_auto(
        "AutoImageProcessor",
        folder,
        trust=trust,
        error=PreprocessingError,
        problem=f"{subject}: transformers cannot read it",
        fix="Check the folder.",
        backend=backend,
        **changes,
    )


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


def _base_of(processor: Any, backend: Backend, subject: str) -> type:
    from transformers.image_processing_backends import PilBackend, TorchvisionBackend

    base: type = TorchvisionBackend if backend == "torchvision" else PilBackend
    if not isinstance(processor, base):
        raise PreprocessingError(
            f"{subject}: '{type(processor).__name__}' cannot be folded in: expected one of transformers' {backend} "
            "processors. Pass --preprocess FILE.py:NAME."
        )
    return base


def _check(processor: Processor, pixels: PixelFormat, subject: str, name: str) -> None:
    """Raise PreprocessingError where the steps give other values than the processor itself on a few images."""
    for drawing in _DRAWINGS:
        made = drawing.draw(pixels)
        image: Any = made.source()
        expected, prepared = processor.pixels(image), prepare(image, processor.geometry)
        values = torch.from_numpy(expected).permute(2, 0, 1)[None].to(torch.float32)
        for step in processor.arithmetic:
            values = STEPS[type(step)].to_module(step)(values)
        wanted = processor.transform(image)
        if not np.array_equal(expected, prepared):
            problem = _difference(expected, prepared)
        elif values[0].shape != wanted.shape or not _is_close(values[0], wanted):
            problem = "in its arithmetic"
        else:
            continue
        raise PreprocessingError(
            f"{subject}: '{name}' does otherwise than its settings say: it differs on '{made.name}', "
            f"{problem}. Pass --preprocess FILE.py:NAME."
        )


def _is_close(values: torch.Tensor, wanted: torch.Tensor) -> bool:
    if not wanted.is_floating_point():
        # Of two colors as near as each other, rounding chooses.
        return bool((values != wanted).float().mean() <= _TIES)
    return bool((values - wanted).abs().max() <= _TOLERANCE * wanted.abs().max())


def _difference(expected: NDArray[Any], prepared: NDArray[Any]) -> str:
    if expected.shape != prepared.shape:
        return f"expected {list(expected.shape)}, got {list(prepared.shape)}"
    return f"by up to {np.abs(expected.astype(int) - prepared.astype(int)).max()} gray levels"
