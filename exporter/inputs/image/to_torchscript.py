"""Writer: the manifest's steps as modules that TorchScript can compile, for any image size.

Sizes and positions follow the functions of ``runtime/geometry/sizes.py``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.inputs.image.antialias_torch import resample_tensor
from exporter.inputs.image.plain_torch import sample_as_opencv
from runtime.manifest import (
    ArithmeticStep,
    CenterCrop,
    GeometryStep,
    Grayscale,
    KeepRatio,
    Normalize,
    Pad,
    Preprocessing,
    Resize,
    ToFloat,
)


class Geometry(nn.Module):
    """Images [batch, any height, any width, channels], uint8 or uint16, to prepared pixels of the same layout."""

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
        """Return the prepared pixels, where the images are; they are computed on the CPU, as the runtime does."""
        pixels = image.cpu().permute(0, 3, 1, 2)
        # torch does next to nothing with uint16.
        pixels = pixels.to(torch.int32) if image.dtype == torch.uint16 else pixels
        for step in self.steps:
            pixels = step(pixels)
        return pixels.permute(0, 2, 3, 1).to(device=image.device, dtype=image.dtype)


class Arithmetic(nn.Module):
    """PreparedInput pixels [batch, height, width, channels] to the network's input, float32, channels first."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.steps = nn.ModuleList(_arithmetic_module(step) for step in preprocessing.arithmetic)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the normalised input."""
        values = pixels.to(torch.float32).permute(0, 3, 1, 2).contiguous()
        for step in self.steps:
            values = step(values)
        return values


class _Resize(nn.Module):
    """A resize, and the crop that follows it: one axis at a time, in the manifest's order, and only what is kept."""

    def __init__(self, step: Resize, crop: CenterCrop | None) -> None:
        super().__init__()
        self.size = _ResizedSize(step)
        self.interpolation = step.interpolation
        self.larger_cut_first = step.axis_order == "larger_cut_first"
        self.implementation = step.implementation
        self.antialias = step.antialias
        self.crop_height, self.crop_width = (crop.height, crop.width) if crop else (0, 0)
        self.down = crop is not None and crop.rounding == "down"
        self.crop = _CenterCrop(crop) if crop else nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        old_height, old_width = pixels.shape[2], pixels.shape[3]
        height, width = self.size(old_height, old_width)
        if self.implementation == "opencv":
            pixels = sample_as_opencv(pixels, self.interpolation, height, width)
        elif self.implementation == "torch":
            if self.antialias or self.interpolation == "bilinear":
                pixels = functional.interpolate(
                    pixels,
                    size=[height, width],
                    mode=self.interpolation,
                    align_corners=False,
                    antialias=self.antialias,
                )
            else:
                mode = "nearest-exact" if self.interpolation == "nearest_exact" else "nearest"
                pixels = functional.interpolate(pixels, size=[height, width], mode=mode)
        else:
            rows, columns = _window(height, self.crop_height, self.down), _window(width, self.crop_width, self.down)
            rows_cut, columns_cut = old_height - height, old_width - width
            if self.larger_cut_first and rows_cut > 0 and rows_cut > 2 * columns_cut:
                pixels = resample_tensor(pixels, self.interpolation, 2, height, rows[0], rows[1])
                pixels = resample_tensor(pixels, self.interpolation, 3, width, columns[0], columns[1])
            else:
                pixels = resample_tensor(pixels, self.interpolation, 3, width, columns[0], columns[1])
                pixels = resample_tensor(pixels, self.interpolation, 2, height, rows[0], rows[1])
        cropped: Tensor = self.crop(pixels)
        return cropped


class _ResizedSize(nn.Module):
    """``runtime.geometry.sizes.resized_size``, compiled."""

    def __init__(self, step: Resize) -> None:
        super().__init__()
        box = step.size if isinstance(step.size, KeepRatio) else None
        self.short_side = step.size if isinstance(step.size, int) else 0
        self.height, self.width = step.size if isinstance(step.size, tuple) else (0, 0)
        self.max_size = step.max_size or 0
        self.box_height, self.box_width = (float(box.height), float(box.width)) if box else (0.0, 0.0)
        self.inside = box is not None and box.side == "inside"
        self.divide = box is not None and box.arithmetic == "divide"
        self.enlarge = box is None or box.enlarge

    def forward(self, old_height: int, old_width: int) -> tuple[int, int]:
        if self.box_height > 0:
            return self._fitted(float(old_height), float(old_width))
        height, width = self.height, self.width
        if self.short_side > 0:
            short = min(old_height, old_width)
            height, width = self.short_side * old_height // short, self.short_side * old_width // short
            long = max(height, width)
            if self.max_size > 0 and long > self.max_size:
                height, width = max(1, self.max_size * height // long), max(1, self.max_size * width // long)
        return height, width

    def _fitted(self, height: float, width: float) -> tuple[int, int]:
        if self.divide:
            by_height, by_width = height / self.box_height, width / self.box_width
            ratio = max(by_height, by_width) if self.inside else min(by_height, by_width)
            ratio = ratio if self.enlarge else max(ratio, 1.0)
            new_height, new_width = height / ratio, width / ratio
        else:
            by_height, by_width = self.box_height / height, self.box_width / width
            ratio = min(by_height, by_width) if self.inside else max(by_height, by_width)
            ratio = ratio if self.enlarge else min(ratio, 1.0)
            new_height, new_width = height * ratio, width * ratio
        # TorchScript's round gives a float.
        return max(1, int(round(new_height))), max(1, int(round(new_width)))  # noqa: RUF046


def _window(size: int, crop: int, down: bool) -> tuple[int, int]:
    """Return the start and the length of what a centred crop keeps of ``size`` pixels; of all, where there is none."""
    if crop == 0 or size <= crop:
        return 0, size
    if down:
        return (size - crop) // 2, crop
    return int(round((size - crop) / 2.0)), crop  # noqa: RUF046  TorchScript's round gives a float


class _CenterCrop(nn.Module):
    fill: Tensor

    def __init__(self, step: CenterCrop) -> None:
        super().__init__()
        self.height, self.width = step.height, step.width
        self.down = step.rounding == "down"
        self.register_buffer("fill", torch.tensor(step.fill, dtype=torch.int32).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        rows, columns = max(self.height - pixels.shape[2], 0), max(self.width - pixels.shape[3], 0)
        if rows > 0 or columns > 0:
            pixels = _framed(pixels, self.fill, columns // 2, rows // 2, columns - columns // 2, rows - rows // 2)
        top = _window(pixels.shape[2], self.height, self.down)[0]
        left = _window(pixels.shape[3], self.width, self.down)[0]
        return pixels[:, :, top : top + self.height, left : left + self.width]


def _framed(pixels: Tensor, fill: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """Return the pixels with a frame of one color."""
    batch, channels, height, width = pixels.shape
    size = [batch, channels, height + top + bottom, width + left + right]
    framed = (torch.zeros(size, dtype=torch.int32) + fill.to(pixels.device)).to(pixels.dtype)
    framed[:, :, top : top + height, left : left + width] = pixels
    return framed


class _Pad(nn.Module):
    fill: Tensor

    def __init__(self, step: Pad) -> None:
        super().__init__()
        self.left, self.top, self.right, self.bottom = step.left, step.top, step.right, step.bottom
        self.mode = step.mode
        self.register_buffer("fill", torch.tensor(step.fill, dtype=torch.int32).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        if self.mode == "constant":
            return _framed(pixels, self.fill, self.left, self.top, self.right, self.bottom)
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
        total = (pixels.to(torch.int32) * self.luma.to(pixels.device)).sum(dim=1, keepdim=True, dtype=torch.int32)
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
