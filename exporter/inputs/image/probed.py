"""Functions of tensors in a transform, such as a Lambda, read by what they give for probes.

Affine functions of each channel, choices of channels, and a normalization by an image's own mean and deviation are
found and then held against random images; anything else is not read.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from runtime.manifest import ArithmeticStep, ChannelOrder, Normalize, Standardize, ToFloat

# Sizes of the probes: whatever depends on neighbors, or on the size, shows in one of them.
_SIZES = ((9, 14), (17, 6))

# Largest accepted difference, in shares of the output's range: float32's own rounding is a thousandth of it.
_TOLERANCE = 1e-5

# What people add to a deviation, so that images of one color divide by something.
_EPSILONS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)

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
        flat = function(torch.zeros_like(inputs[0]))
    except Exception:  # the user's function may raise anything for a tensor
        return None
    for value, output, repeated in zip(inputs, outputs, again, strict=True):
        if not isinstance(output, torch.Tensor) or output.dim() != 3 or output.shape[1:] != value.shape[1:]:
            return None
        if not torch.equal(output, repeated) or output.shape[0] != outputs[0].shape[0]:
            return None
    if not is_float and not outputs[0].is_floating_point():
        return None
    given, wanted = [value.double() for value in inputs], [output.double() for output in outputs]
    steps = _fit(given, wanted, is_float=is_float)
    if steps is not None:
        return steps
    step = _standardize(given, wanted, bounded=bool(torch.isfinite(flat).all()))
    if step is None:
        return None
    return [step] if is_float else [ToFloat(divisor=1.0), step]


def _standardize(
    inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor], *, bounded: bool
) -> Standardize | None:
    """Return the normalization by an image's own statistics that gives the outputs; None where none does.

    ``bounded`` says that images of one color give numbers, so that something is added to the deviation.
    """
    for per, dimensions in (("image", [0, 1, 2]), ("channel", [1, 2])):
        for unbiased in (True, False):
            for epsilon in _EPSILONS if bounded else (0.0,):
                step = Standardize(per=per, unbiased=unbiased, epsilon=epsilon)  # type: ignore[arg-type]
                if all(_is_standardized(*pair, step, dimensions) for pair in zip(inputs, outputs, strict=True)):
                    return step
    return None


def _is_standardized(source: torch.Tensor, output: torch.Tensor, step: Standardize, dimensions: list[int]) -> bool:
    if source.shape != output.shape:
        return False
    mean = source.mean(dim=dimensions, keepdim=True)
    deviation = source.std(dim=dimensions, correction=int(step.unbiased), keepdim=True)
    made = (source - mean) / (deviation + step.epsilon)
    return float((made - output).abs().max()) <= _TOLERANCE * max(1.0, float(output.abs().max()))


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
    lowest, highest = ((0, 256), (100, 180), (0, 60), (110, 130))[seed % 4]
    return torch.randint(lowest, highest, (channels, *size), generator=generator).float()
