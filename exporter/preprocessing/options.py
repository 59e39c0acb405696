"""Plain numbers to the transform that most evaluation scripts spell out."""

from collections.abc import Sequence

from torchvision import transforms
from torchvision.transforms import InterpolationMode

from exporter.errors import PreprocessingError


def transform_of_options(
    *,
    resize: int | tuple[int, int] | None,
    crop: int | tuple[int, int] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    interpolation: str,
) -> transforms.Compose:
    """Return Resize, CenterCrop, ToTensor and Normalize, each where it is asked for.

    Raises PreprocessingError for an unknown interpolation, or a mean without a deviation.
    """
    modes = [mode.value for mode in InterpolationMode if mode is not InterpolationMode.NEAREST_EXACT]
    if interpolation not in modes:
        raise PreprocessingError(
            f"--interpolation '{interpolation}': unknown: expected one of {', '.join(modes)}. Name one of these."
        )
    if (mean is None) != (std is None):
        raise PreprocessingError(
            "--mean and --std: belong together: expected both or neither. Give the other one, too."
        )
    steps: list[object] = []
    if resize is not None:
        steps.append(transforms.Resize(resize, InterpolationMode(interpolation)))
    if crop is not None:
        steps.append(transforms.CenterCrop(crop))
    steps.append(transforms.ToTensor())
    if mean is not None and std is not None:
        steps.append(transforms.Normalize(mean=list(mean), std=list(std)))
    return transforms.Compose(steps)
