"""Pillow's antialiased resize in torch, to the last bit; compiled by TorchScript.

The same arithmetic as ``antialias_onnx.py``, which says where it comes from: weights in float64 as multiples of
2**-22, a matrix product for each band of output pixels. torch's own antialiased resize is 1 or 2 gray levels off
Pillow's on up to 5% of the pixels.
"""

import math

import torch
from torch import Tensor, nn

from runtime.geometry import filters
from runtime.manifest import Interpolation


class AxisResampler(nn.Module):
    """One pass of a resize along one axis of uint8 pixels [batch, channels, height, width]."""

    def __init__(self, interpolation: Interpolation) -> None:
        super().__init__()
        self.interpolation = interpolation
        # The nearest pixel is no filter.
        self.support = 0.0 if interpolation in {"nearest", "nearest_exact"} else filters.SUPPORT[interpolation]

    def forward(self, pixels: Tensor, axis: int, resized: int, start: int, length: int) -> Tensor:
        """Return ``pixels`` with ``axis``, 2 or 3, resized to ``resized`` pixels.

        Only ``length`` pixels from ``start`` on are computed.
        """
        size = pixels.shape[axis]
        if size == resized:
            return pixels.narrow(axis, start, length)
        scale = size / resized
        if self.interpolation == "nearest":
            return pixels.index_select(axis, _nearest_index(scale, start + length)[start:])
        stretch = max(scale, 1.0)
        support = self.support * stretch
        # Output pixels per band: more of them make larger and faster products, with more zeros in them. A local, since
        # TorchScript reads no globals.
        band = 16
        bands: list[Tensor] = []
        for position in range(start, start + length, band):
            outputs = torch.arange(position, min(position + band, start + length), dtype=torch.float64)
            center = (outputs + 0.5) * scale
            first = torch.clamp(torch.floor(center - support + 0.5), min=0.0)
            end = torch.clamp(torch.floor(center + support + 0.5), max=float(size))
            origin, stop = int(first[0].item()), int(end[-1].item())
            # [span, 1] input positions against [band] output positions.
            source = torch.arange(origin, stop, dtype=torch.float64).unsqueeze(1)
            weights = _kernel((source - center + 0.5) / stretch, self.interpolation)
            weights = torch.where((source >= first) & (source < end), weights, torch.zeros_like(weights))
            weights = weights / weights.sum(dim=0)
            weights = torch.sign(weights) * torch.floor(weights.abs() * filters.PILLOW_ONE + 0.5) / filters.PILLOW_ONE
            span = pixels.narrow(axis, origin, stop - origin).to(torch.float64)
            product = torch.matmul(span, weights) if axis == 3 else torch.matmul(weights.transpose(0, 1), span)
            bands.append(torch.clamp(torch.floor(product + 0.5), 0.0, 255.0).to(torch.uint8))
        return torch.cat(bands, dim=axis)


def _nearest_index(scale: float, count: int) -> Tensor:
    """Return the sources of the first pixels; Pillow adds the scale up pixel by pixel, and rounds as a sum does."""
    index: list[int] = []
    position = scale * 0.5
    for _ in range(count):
        index.append(int(position))
        position += scale
    return torch.tensor(index)


def _kernel(x: Tensor, interpolation: str) -> Tensor:
    if interpolation == "box":
        return ((x > -0.5) & (x <= 0.5)).to(torch.float64)
    zero = torch.zeros_like(x)
    if interpolation == "lanczos":
        return torch.where(
            (x >= -filters.LANCZOS_SUPPORT) & (x < filters.LANCZOS_SUPPORT),
            _sinc(x) * _sinc(x / filters.LANCZOS_SUPPORT),
            zero,
        )
    x = x.abs()
    if interpolation == "bicubic":
        near = (1.5 * x - 2.5) * x * x + 1.0
        far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
        return torch.where(x < 1.0, near, torch.where(x < 2.0, far, zero))
    if interpolation == "hamming":
        window = filters.HAMMING_OFFSET + filters.HAMMING_FACTOR * torch.cos(x * math.pi)
        return torch.where(x == 0.0, torch.ones_like(x), torch.where(x < 1.0, _sinc(x) * window, zero))
    return torch.clamp(1.0 - x, min=0.0)


def _sinc(x: Tensor) -> Tensor:
    angle = x * math.pi
    return torch.where(x == 0.0, torch.ones_like(x), torch.sin(angle) / angle)
