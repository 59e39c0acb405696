"""Writer: the manifest's steps as modules that TorchScript can compile, for any image size.

Sizes and positions follow the functions of ``runtime/geometry.py``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from runtime.manifest import ArithmeticStep, CenterCrop, GeometryStep, Normalize, Preprocessing, Resize, ToFloat


class Geometry(nn.Module):
    """uint8 images [batch, any height, any width, 3] to prepared pixels, uint8 [batch, height, width, 3].

    Uses torch's own antialiased resize, which differs from Pillow by up to 2 grey levels on under 1% of the pixels.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.steps = nn.ModuleList(_geometry_module(step) for step in preprocessing.geometry)

    def forward(self, image: Tensor) -> Tensor:
        """Return the prepared pixels."""
        pixels = image.permute(0, 3, 1, 2)
        for step in self.steps:
            pixels = step(pixels)
        return pixels.permute(0, 2, 3, 1)


class Arithmetic(nn.Module):
    """Prepared pixels, uint8 [batch, height, width, 3], to the network's input, float32 [batch, 3, height, width]."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.steps = nn.ModuleList(_arithmetic_module(step) for step in preprocessing.arithmetic)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the normalised input."""
        values = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32)
        for step in self.steps:
            values = step(values)
        return values


class _Resize(nn.Module):
    """One axis at a time, as Pillow: torch, too, rounds uint8 between the passes, so their order shows."""

    def __init__(self, step: Resize) -> None:
        super().__init__()
        self.short_side = step.size if isinstance(step.size, int) else 0
        self.height, self.width = step.size if isinstance(step.size, tuple) else (0, 0)
        self.mode = step.interpolation
        self.larger_cut_first = step.axis_order == "larger_cut_first"

    def forward(self, pixels: Tensor) -> Tensor:
        old_height, old_width = pixels.shape[2], pixels.shape[3]
        height, width = self.height, self.width
        if self.short_side > 0:
            short = min(old_height, old_width)
            height, width = self.short_side * old_height // short, self.short_side * old_width // short
        rows_cut, columns_cut = old_height - height, old_width - width
        between = [old_height, width]
        if self.larger_cut_first and rows_cut > 0 and rows_cut > 2 * columns_cut:
            between = [height, old_width]
        for size in (between, [height, width]):
            pixels = functional.interpolate(pixels, size=size, mode=self.mode, align_corners=False, antialias=True)
        return pixels


class _CenterCrop(nn.Module):
    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, pixels: Tensor) -> Tensor:
        rows = max(self.height - pixels.shape[2], 0)
        columns = max(self.width - pixels.shape[3], 0)
        if rows > 0 or columns > 0:
            pixels = functional.pad(pixels, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        top = int(round((pixels.shape[2] - self.height) / 2.0))  # noqa: RUF046  TorchScript's round gives a float
        left = int(round((pixels.shape[3] - self.width) / 2.0))  # noqa: RUF046
        return pixels[:, :, top : top + self.height, left : left + self.width]


class _ToFloat(nn.Module):
    def __init__(self, divisor: float) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, values: Tensor) -> Tensor:
        return values / self.divisor


class _Normalize(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, step: Normalize) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(step.mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(step.std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std


def _geometry_module(step: GeometryStep) -> nn.Module:
    match step:
        case Resize():
            return _Resize(step)
        case CenterCrop():
            return _CenterCrop(step.height, step.width)


def _arithmetic_module(step: ArithmeticStep) -> nn.Module:
    match step:
        case ToFloat():
            return _ToFloat(step.divisor)
        case Normalize():
            return _Normalize(step)
