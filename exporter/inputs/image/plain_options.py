"""Training transform made from options: resize, crop, mean and deviation."""

from collections.abc import Sequence

import torch
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2

from exporter.errors import PreprocessingError
from exporter.inputs.image.opencv_transforms import Letterbox, OpenCVResize
from exporter.recipe import INTERPOLATIONS, RESIZE_BACKENDS


def transform_of_options(
    *,
    resize: int | tuple[int, int] | None,
    crop: int | tuple[int, int] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    interpolation: str,
    resize_backend: str = "pillow",
) -> transforms.Compose:
    """Return Resize, CenterCrop, ToTensor and Normalize, each where its option is given.

    ``resize_backend`` resizes PIL images as torchvision does by default, uint8 tensors as its v2 does after ToImage, or
    as OpenCV does. Raises PreprocessingError for an unknown interpolation or resizer, for one that the resizer does not
    have, or a mean without a deviation.
    """
    _check_choice("--interpolation", interpolation, INTERPOLATIONS)
    _check_choice("--resize-backend", resize_backend, RESIZE_BACKENDS)
    if (mean is None) != (std is None):
        raise PreprocessingError("--mean and --std: one is given without the other. Give both or neither.")
    steps: list[object] = []
    as_tensor = resize_backend.startswith("torch")
    if as_tensor:
        steps.append(v2.ToImage())
    if resize is not None:
        steps.append(_resize(resize, interpolation, resize_backend))
    elif resize_backend != "pillow":
        raise PreprocessingError(f"--resize-backend '{resize_backend}': nothing to resize. Pass --resize with a size.")
    if crop is not None:
        steps.append((v2 if as_tensor else transforms).CenterCrop(crop))
    steps.append(v2.ToDtype(torch.float32, scale=True) if as_tensor else transforms.ToTensor())
    if mean is not None and std is not None:
        steps.append(transforms.Normalize(mean=list(mean), std=list(std)))
    return transforms.Compose(steps)


def _resize(size: int | tuple[int, int], interpolation: str, resize_backend: str) -> object:
    if resize_backend == "pillow":
        return transforms.Resize(size, InterpolationMode(interpolation))
    if resize_backend in {"torch", "torch-no-antialias"}:
        return v2.Resize(size, InterpolationMode(interpolation), antialias=resize_backend == "torch")
    sides = (size, size) if resize_backend == "letterbox" and isinstance(size, int) else size
    if isinstance(sides, int):
        raise PreprocessingError(
            f"--resize-backend opencv: needs an exact size: expected --resize HxW, got {size}. Give both sides."
        )
    if resize_backend == "letterbox":
        return Letterbox(size=sides)
    if interpolation not in {"bilinear", "nearest"}:
        raise PreprocessingError(
            f"--interpolation '{interpolation}': not available with --resize-backend opencv: expected bilinear or "
            "nearest. Pass one of these, or the transform with --preprocess."
        )
    return OpenCVResize(size=sides, interpolation=interpolation)  # type: ignore[arg-type]


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise PreprocessingError(
            f"{option} '{value}': unknown: expected one of {', '.join(choices)}. Pass one of these."
        )
