"""Padding: reading, ONNX nodes, TorchScript.

The frames of one color are also what crops add to smaller images.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import v2

from exporter.conversion.node_builder import Value
from exporter.errors import PreprocessingError
from exporter.inputs.image.sizes_onnx import HEIGHT, WIDTH
from exporter.inputs.image.step_module import PixelNodes, Readers, TransformInput
from runtime.manifest import Pad


def describe(step: Pad) -> str:
    """Return the step in a few words for people."""
    return f"Pad {step.mode} {step.left} {step.top} {step.right} {step.bottom}"


def write_onnx(nodes: PixelNodes, pixels: Value, step: Pad) -> Value:
    """Append padding of one color, or a choice of the image's own rows and columns."""
    if step.mode == "constant":
        pads = nodes.integers(0, 0, step.top, step.left, 0, 0, step.bottom, step.right)
        return add_frame(nodes, pixels, pads, step.fill)
    for axis, before, after in ((HEIGHT, step.top, step.bottom), (WIDTH, step.left, step.right)):
        size = pixels.sizes(axis, axis + 1)
        end = (size + after).scalar()
        position = nodes.apply("Range", nodes.integer(-before), end, nodes.integer(1))
        pixels = nodes.apply("Gather", pixels, _source_index(position, size, step.mode), axis=axis)
    return pixels


def to_module(step: Pad) -> nn.Module:
    """Return the padding as a module."""
    return _Pad(step)


def add_frame(nodes: PixelNodes, pixels: Value, pads: Value | str, fill: Sequence[int]) -> Value:
    """Return the pixels with a frame of one color: one channel at a time where it has several values.

    ``pads`` are the widths as ONNX's Pad takes them, int64 [8].
    """
    if len(fill) == 1:
        return nodes.apply("Pad", pixels, pads, nodes.level(fill[0]))
    channel_axis = nodes.integers(1)
    planes = [
        nodes.apply(
            "Pad",
            nodes.apply("Slice", pixels, channel, channel + 1, channel_axis),
            pads,
            nodes.level(value),
        )
        for channel, value in enumerate(fill)
    ]
    return nodes.apply("Concat", *planes, axis=1)


def _source_index(position: Value, size: Value, mode: str) -> Value:
    """Return which pixel of an axis is at ``position`` of the padded one, as ``numpy.pad`` has it."""
    zero, one = position.nodes.integers(0), position.nodes.integers(1)
    last = size - one
    if mode == "edge":
        return position.at_least(zero).at_most(last)
    # Mirrored about the edge of the last pixel, which is then there twice, or about its middle.
    far = last + (size if mode == "symmetric" else last)
    period = far + one if mode == "symmetric" else far.at_least(one)
    phase = position % period
    return phase.at_most(far - phase)


class _Pad(nn.Module):
    fill: Tensor

    def __init__(self, step: Pad) -> None:
        super().__init__()
        self.left, self.top, self.right, self.bottom = step.left, step.top, step.right, step.bottom
        self.mode = step.mode
        self.register_buffer("fill", torch.tensor(step.fill, dtype=torch.int32).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        if self.mode == "constant":
            return frame_tensor(pixels, self.fill, self.left, self.top, self.right, self.bottom)
        pixels = pixels.index_select(2, self._inside(pixels.shape[2], self.top, self.bottom))
        return pixels.index_select(3, self._inside(pixels.shape[3], self.left, self.right))

    def _inside(self, size: int, before: int, after: int) -> Tensor:
        """Return which pixel of an axis is at each position of the padded one, as ``numpy.pad`` has it."""
        position = torch.arange(-before, size + after)
        if self.mode == "edge":
            return position.clamp(0, size - 1)
        # Mirrored about the edge of the last pixel, which is then there twice, or about its middle.
        far = 2 * size - 1 if self.mode == "symmetric" else 2 * size - 2
        phase = torch.remainder(position, far + 1 if self.mode == "symmetric" else max(far, 1))
        return torch.minimum(phase, far - phase)


def frame_tensor(pixels: Tensor, fill: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """Return the pixels with a frame of one color, compiled by TorchScript."""
    batch, channels, height, width = pixels.shape
    size = [batch, channels, height + top + bottom, width + left + right]
    framed = (torch.zeros(size, dtype=torch.int32) + fill.to(pixels.device)).to(pixels.dtype)
    framed[:, :, top : top + height, left : left + width] = pixels
    return framed


def read_fill(fill: Any, subject: str) -> tuple[int, ...]:
    """Return the color of padding: one value, or one per channel."""
    if isinstance(fill, dict) or not isinstance(fill, int | float | tuple | list | None):
        raise PreprocessingError(
            f"{subject}: fill cannot be folded in: expected a number or one per channel, got {fill}. Pass one of these."
        )
    values = [fill or 0] if isinstance(fill, int | float | None) else list(fill)
    return tuple(int(value) for value in values)


def _read(transform: Any, before: TransformInput) -> Sequence[Pad]:
    before.check_pixels()
    padding = transform.padding
    sides = [padding] if isinstance(padding, int) else list(padding)
    left, top, right, bottom = {1: sides * 4, 2: sides * 2, 4: sides}[len(sides)]
    if min(left, top, right, bottom) < 0:
        raise PreprocessingError(
            f"{before.subject}: pads by less than nothing: expected 0 or more, got {sides}. Use CenterCrop."
        )
    return [
        Pad(
            left=left,
            top=top,
            right=right,
            bottom=bottom,
            mode=str(getattr(transform.padding_mode, "value", transform.padding_mode)),  # type: ignore[arg-type]
            fill=read_fill(transform.fill, before.subject),
        )
    ]


READERS: Readers = {transforms.Pad: _read, v2.Pad: _read}
