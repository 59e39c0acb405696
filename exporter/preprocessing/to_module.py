"""Writer: the manifest's steps as modules that TorchScript can compile, for any image size.

Sizes and positions follow the functions of ``runtime/geometry.py``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.preprocessing.resampling import resample
from runtime.manifest import (
    ArithmeticStep,
    CenterCrop,
    GeometryStep,
    Grayscale,
    Normalize,
    Pad,
    Preprocessing,
    Resize,
    ToFloat,
)


class Geometry(nn.Module):
    """uint8 images [batch, any height, any width, channels] to prepared pixels of the same layout."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        steps = list(preprocessing.geometry)
        modules: list[nn.Module] = []
        while steps:
            step = steps.pop(0)
            if isinstance(step, Resize):
                crop = steps.pop(0) if steps and isinstance(steps[0], CenterCrop) else None
                modules.append(_Resize(step, crop if isinstance(crop, CenterCrop) else None))
            else:
                modules.append(_geometry_module(step))
        self.steps = nn.ModuleList(modules)

    def forward(self, image: Tensor) -> Tensor:
        """Return the prepared pixels."""
        pixels = image.permute(0, 3, 1, 2)
        for step in self.steps:
            pixels = step(pixels)
        return pixels.permute(0, 2, 3, 1)


class Arithmetic(nn.Module):
    """Prepared pixels, uint8 [batch, height, width, channels], to the network's input, float32, channels first."""

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
    """A resize, and the crop that follows it: one axis at a time, in the manifest's order, and only what is kept."""

    def __init__(self, step: Resize, crop: CenterCrop | None) -> None:
        super().__init__()
        self.short_side = step.size if isinstance(step.size, int) else 0
        self.height, self.width = step.size if isinstance(step.size, tuple) else (0, 0)
        self.max_size = step.max_size or 0
        self.interpolation = step.interpolation
        self.larger_cut_first = step.axis_order == "larger_cut_first"
        self.own = step.implementation == "torch"
        self.crop_height, self.crop_width = (crop.height, crop.width) if crop else (0, 0)
        self.down = crop is not None and crop.rounding == "down"

    def forward(self, pixels: Tensor) -> Tensor:
        old_height, old_width = pixels.shape[2], pixels.shape[3]
        height, width = self.height, self.width
        if self.short_side > 0:
            short = min(old_height, old_width)
            height, width = self.short_side * old_height // short, self.short_side * old_width // short
            long = max(height, width)
            if self.max_size > 0 and long > self.max_size:
                height, width = max(1, self.max_size * height // long), max(1, self.max_size * width // long)
        if self.own:
            pixels = functional.interpolate(
                pixels, size=[height, width], mode=self.interpolation, align_corners=False, antialias=True
            )
            return self._crop(pixels)
        rows, columns = _window(height, self.crop_height, self.down), _window(width, self.crop_width, self.down)
        rows_cut, columns_cut = old_height - height, old_width - width
        if self.larger_cut_first and rows_cut > 0 and rows_cut > 2 * columns_cut:
            pixels = resample(pixels, self.interpolation, 2, height, rows[0], rows[1])
            pixels = resample(pixels, self.interpolation, 3, width, columns[0], columns[1])
        else:
            pixels = resample(pixels, self.interpolation, 3, width, columns[0], columns[1])
            pixels = resample(pixels, self.interpolation, 2, height, rows[0], rows[1])
        return self._crop(pixels)

    def _crop(self, pixels: Tensor) -> Tensor:
        if self.crop_height == 0:
            return pixels
        return center_crop(pixels, self.crop_height, self.crop_width, self.down)


def _window(size: int, crop: int, down: bool) -> tuple[int, int]:
    """Return the start and the length of what a centred crop keeps of ``size`` pixels; of all, where there is none."""
    if crop == 0 or size <= crop:
        return 0, size
    if down:
        return (size - crop) // 2, crop
    return int(round((size - crop) / 2.0)), crop  # noqa: RUF046  TorchScript's round gives a float


def center_crop(pixels: Tensor, height: int, width: int, down: bool) -> Tensor:
    """Return the middle ``height x width`` pixels, padded with zeros where there are fewer."""
    rows, columns = max(height - pixels.shape[2], 0), max(width - pixels.shape[3], 0)
    if rows > 0 or columns > 0:
        pixels = functional.pad(pixels, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
    top, left = _window(pixels.shape[2], height, down)[0], _window(pixels.shape[3], width, down)[0]
    return pixels[:, :, top : top + height, left : left + width]


class _CenterCrop(nn.Module):
    def __init__(self, step: CenterCrop) -> None:
        super().__init__()
        self.height, self.width = step.height, step.width
        self.down = step.rounding == "down"

    def forward(self, pixels: Tensor) -> Tensor:
        return center_crop(pixels, self.height, self.width, self.down)


class _Pad(nn.Module):
    fill: Tensor

    def __init__(self, step: Pad) -> None:
        super().__init__()
        self.left, self.top, self.right, self.bottom = step.left, step.top, step.right, step.bottom
        self.mode = step.mode
        self.register_buffer("fill", torch.tensor(step.fill, dtype=torch.uint8).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        if self.mode == "constant":
            batch, channels, height, width = pixels.shape
            size = [batch, channels, height + self.top + self.bottom, width + self.left + self.right]
            padded = torch.zeros(size, dtype=torch.uint8) + self.fill
            padded[:, :, self.top : self.top + height, self.left : self.left + width] = pixels
            return padded
        pixels = pixels.index_select(2, self._inside(pixels.shape[2], self.top, self.bottom))
        return pixels.index_select(3, self._inside(pixels.shape[3], self.left, self.right))

    def _inside(self, size: int, before: int, after: int) -> Tensor:
        """Return which pixel of an axis stands at each position of the padded one, as ``numpy.pad`` has it."""
        position = torch.arange(-before, size + after)
        if self.mode == "edge":
            return position.clamp(0, size - 1)
        # Mirrored about the edge of the last pixel, which then stands twice, or about its middle.
        far = 2 * size - 1 if self.mode == "symmetric" else 2 * size - 2
        phase = torch.remainder(position, far + 1 if self.mode == "symmetric" else max(far, 1))
        return torch.minimum(phase, far - phase)


class _Grayscale(nn.Module):
    luma: Tensor

    def __init__(self, step: Grayscale) -> None:
        super().__init__()
        # Pillow's L24 macro: ITU-R 601 luma in 16-bit fixed point.
        self.register_buffer("luma", torch.tensor([19595, 38470, 7471], dtype=torch.int32).view(3, 1, 1))
        self.channels = step.channels

    def forward(self, pixels: Tensor) -> Tensor:
        total = (pixels.to(torch.int32) * self.luma).sum(dim=1, keepdim=True, dtype=torch.int32)
        return ((total + 0x8000) // 0x10000).to(torch.uint8).expand(-1, self.channels, -1, -1)


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
            return _Resize(step, None)
        case CenterCrop():
            return _CenterCrop(step)
        case Pad():
            return _Pad(step)
        case Grayscale():
            return _Grayscale(step)


def _arithmetic_module(step: ArithmeticStep) -> nn.Module:
    match step:
        case ToFloat():
            return _ToFloat(step.divisor)
        case Normalize():
            return _Normalize(step)
