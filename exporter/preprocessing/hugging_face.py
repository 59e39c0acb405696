"""A Hugging Face ``preprocessor_config.json`` to the manifest's steps.

transformers' own processor reads the file and stays the reference. What it will do is read off its settings, provided
that its class leaves the steps of the base class as they are.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from exporter.errors import PreprocessingError
from runtime.manifest import ArithmeticStep, CenterCrop, GeometryStep, Interpolation, Normalize, Resize, ToFloat

CONFIG_NAME = "preprocessor_config.json"

# Pillow's numbers, which the file holds, for what torch's antialiased resize of uint8 tensors can do.
_INTERPOLATIONS: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}

# The steps of transformers' base class that the manifest can follow; a processor that overrides one does otherwise.
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


def read_processor(folder: Path) -> Processor:
    """Return the processor that transformers makes of the configuration in ``folder``.

    Raises PreprocessingError when transformers is not installed, cannot read it, or would do what cannot be folded in.
    """
    place = f"'{folder / CONFIG_NAME}'"
    processor = _load(folder, place)
    geometry: list[GeometryStep] = []
    if processor.do_resize:
        geometry.append(_resize(processor, place))
    if processor.do_center_crop:
        size = processor.crop_size
        geometry.append(CenterCrop(height=int(size["height"]), width=int(size["width"]), rounding="down"))
    if getattr(processor, "do_pad", None):
        raise PreprocessingError(
            f"{place}: 'do_pad' cannot be folded in: expected false. Pass --preprocess FILE.py:NAME."
        )

    def run(image: Image.Image, **changes: bool) -> torch.Tensor:
        result: torch.Tensor = processor(images=image, return_tensors="pt", **changes)["pixel_values"][0]
        return result

    def pixels(image: Image.Image) -> NDArray[np.uint8]:
        prepared: NDArray[np.uint8] = run(image, do_rescale=False, do_normalize=False).permute(1, 2, 0).numpy()
        return prepared

    return Processor(geometry=tuple(geometry), arithmetic=_arithmetic(processor), transform=run, pixels=pixels)


def _load(folder: Path, place: str) -> Any:
    try:
        from transformers import AutoImageProcessor
        from transformers.image_processing_backends import TorchvisionBackend
    except ImportError:
        raise PreprocessingError(
            f"{place}: reading it needs transformers 5: not installed. Run: pip install 'truecopy[hf]'."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, ...
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise PreprocessingError(f"{place}: transformers cannot read it: {reason}. Check the folder.") from error
    kind = type(processor)
    if not isinstance(processor, TorchvisionBackend):
        raise PreprocessingError(
            f"{place}: '{kind.__name__}' cannot be folded in: expected one of transformers' torchvision processors. "
            "Pass --preprocess FILE.py:NAME."
        )
    own = [step for step in _STEPS if getattr(kind, step) is not getattr(TorchvisionBackend, step)]
    if own:
        raise PreprocessingError(
            f"{place}: '{kind.__name__}' cannot be folded in: expected the usual steps, got its own "
            f"{', '.join(own)}. Pass --preprocess FILE.py:NAME."
        )
    return processor


def _resize(processor: Any, place: str) -> Resize:
    interpolation = _INTERPOLATIONS.get(int(processor.resample))
    if interpolation is None:
        raise PreprocessingError(
            f"{place}: 'resample' cannot be folded in: expected 2 (bilinear) or 3 (bicubic), got {processor.resample}. "
            "Pass --preprocess FILE.py:NAME."
        )
    size = {key: value for key, value in dict(processor.size).items() if value}
    if size.keys() == {"shortest_edge"}:
        wanted: int | tuple[int, int] = int(size["shortest_edge"])
    elif size.keys() == {"height", "width"}:
        wanted = (int(size["height"]), int(size["width"]))
    else:
        raise PreprocessingError(
            f"{place}: 'size' cannot be folded in: expected 'shortest_edge', or 'height' and 'width', got {size}. "
            "Pass --preprocess FILE.py:NAME."
        )
    return Resize(size=wanted, interpolation=interpolation, axis_order="horizontal_first", implementation="torch")


def _arithmetic(processor: Any) -> tuple[ArithmeticStep, ...]:
    """Return the steps as transformers fuses them: mean and deviation in grey levels, in float32."""
    if not processor.do_rescale and not processor.do_normalize:
        return (ToFloat(divisor=1.0),)
    levels = 1.0 / processor.rescale_factor if processor.do_rescale else 1.0
    if not processor.do_normalize:
        return (ToFloat(divisor=levels),)
    mean, std = (
        tuple((torch.tensor(values) * levels).tolist()) for values in (processor.image_mean, processor.image_std)
    )
    return (ToFloat(divisor=1.0), Normalize(mean=mean, std=std))
