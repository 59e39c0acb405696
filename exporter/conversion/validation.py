"""A converted network, tried on inputs of other shapes than those that it was converted with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.conversion.failures import OtherLengthError
from exporter.conversion.sigmoids import SIGMOID_LIMIT, SigmoidWatch
from exporter.errors import ConversionError

# A converted network that is further from eager than this, relative to its outputs, is wrong; parity judges the rest.
_LIMIT = 1e-3


def validate(
    run: Callable[[Mapping[str, torch.Tensor]], Sequence[NDArray[Any]]],
    network: nn.Module,
    inputs: Sequence[Mapping[str, torch.Tensor]],
    *,
    subject: str,
) -> None:
    """Raise ConversionError unless ``run``, the converted network, gives about what ``network`` gives for each input.

    ``network`` takes the tensors by position. ``subject`` is what the message calls what was converted. The error is an
    OtherLengthError where it is right for some of the inputs.
    """
    wrong = []
    for tensors in inputs:
        outputs = run(tensors)
        with torch.no_grad(), SigmoidWatch() as sigmoids:
            value = network(*tensors.values())
        try:
            for actual, tensor in zip(outputs, value if isinstance(value, tuple) else (value,), strict=True):
                _check(actual, tensor.numpy(), SIGMOID_LIMIT if sigmoids.made(tensor) else 0.0, subject)
        except OtherLengthError as error:
            wrong.append(error)
    if wrong:
        raise wrong[0] if len(wrong) < len(inputs) else ConversionError(str(wrong[0]))


def _check(actual: NDArray[Any], expected: NDArray[Any], own_error: float, subject: str) -> None:
    if actual.shape != expected.shape:
        raise OtherLengthError(f"{subject} gives {list(actual.shape)} where eager gives {list(expected.shape)}")
    if not expected.size:
        return
    largest = float(np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max())
    if largest > max(_LIMIT * float(np.abs(expected).max()), own_error):
        raise OtherLengthError(f"{subject} is {largest:.1e} off eager for inputs of another length")
