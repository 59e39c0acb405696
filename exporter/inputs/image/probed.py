"""Functions of tensors in a transform, such as a Lambda, read by what they give for probes.

Affine functions of each channel, and choices of channels, are found and then held against random images; anything else,
such as a division by an image's own deviation, is not read.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from runtime.manifest import ArithmeticStep, ChannelOrder, Normalize, ToFloat

# Sizes of the probes: whatever depends on neighbors, or on the size, shows in one of them.
_SIZES = ((9, 14), (17, 6))

# Largest accepted difference, in shares of the output's range: float32's own rounding is a thousandth of it.
_TOLERANCE = 1e-5

# What float32's rounding leaves of a number, in shares of it.
_NOTHING = 1e-6


def probe(
    function: Callable[[Any], Any], channels: int, before: Callable[[torch.Tensor], torch.Tensor], *, is_float: bool
) -> list[ArithmeticStep] | None:
    """Return the steps that a function of tensors [channels, height, width] is; None where it is none.

    ``before`` makes of float32 gray levels what the function gets, and ``is_float`` says that this is floats; otherwise
    it gets uint8.
    """
    levels = [_random_levels(channels, size, seed) for seed, size in enumerate(_SIZES * 2)]
    try:
        inputs = [before(image) if is_float else image.to(torch.uint8) for image in levels]
        outputs = [function(value.clone()) for value in inputs]
        again = [function(value.clone()) for value in inputs]
    except Exception:  # the user's function may raise anything for a tensor
        return None
    for value, output, repeated in zip(inputs, outputs, again, strict=True):
        if not isinstance(output, torch.Tensor) or output.dim() != 3 or output.shape[1:] != value.shape[1:]:
            return None
        if not torch.equal(output, repeated) or output.shape[0] != outputs[0].shape[0]:
            return None
    if not is_float and not outputs[0].is_floating_point():
        return None
    return _fit([value.double() for value in inputs], [output.double() for output in outputs], is_float=is_float)


def _fit(
    inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor], *, is_float: bool
) -> list[ArithmeticStep] | None:
    given = torch.cat([value.flatten(1) for value in inputs], dim=1)
    wanted = torch.cat([output.flatten(1) for output in outputs], dim=1)
    order, scales, shifts = [], [], []
    for channel in wanted:
        lines = [_line(source, channel) for source in given]
        best = min(range(len(lines)), key=lambda index: lines[index][2])
        scale, shift, error = lines[best]
        if error > _TOLERANCE * max(1.0, float(channel.abs().max())) or scale == 0:
            return None
        order.append(best)
        scales.append(scale)
        shifts.append(shift)
    steps: list[ArithmeticStep] = [] if is_float else [ToFloat(divisor=1.0)]
    if order != list(range(len(given))):
        steps.append(ChannelOrder(order=tuple(order)))
    if any(abs(scale - 1) > _TOLERANCE for scale in scales) or any(abs(shift) > _TOLERANCE for shift in shifts):
        mean = tuple(_neat(-shift / scale) for scale, shift in zip(scales, shifts, strict=True))
        steps.append(Normalize(mean=mean, std=tuple(_neat(1 / scale) for scale in scales)))
    return steps


def _line(source: torch.Tensor, channel: torch.Tensor) -> tuple[float, float, float]:
    """Return the scale, the shift and the largest error of the line through one channel over another."""
    centered = source - source.mean()
    scale = float((centered * channel).sum() / (centered * centered).sum())
    shift = float(channel.mean() - scale * source.mean())
    return scale, shift, float((source * scale + shift - channel).abs().max())


def _neat(value: float) -> float:
    """Return a number without the rounding of float32, such as 0.5 for 0.49999998."""
    rounded = float(f"{value:.5g}") if abs(value) > _NOTHING else 0.0
    return rounded if abs(rounded - value) <= _NOTHING * max(1e-3, abs(value)) or not rounded else value


def _random_levels(channels: int, size: tuple[int, int], seed: int) -> torch.Tensor:
    """Return gray levels, float32 [channels, height, width], of a range that differs from image to image."""
    generator = torch.Generator().manual_seed(seed)
    lowest, highest = ((0, 256), (100, 180), (0, 60), (200, 256))[seed % 4]
    return torch.randint(lowest, highest, (channels, *size), generator=generator).float()
