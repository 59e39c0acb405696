"""A calibration put behind a TorchScript archive: its probabilities' logarithms, or logits, are scaled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporter.conversion.to_torchscript import load_torchscript, to_torchscript

_TINY = float(np.finfo(np.float32).tiny)


def scale_torchscript(path: Path, scales: NDArray[np.float64], *, sigmoid: bool) -> bytes:
    """Return the archive with calibrated probabilities; it has one input, and the methods that it had."""
    inner: Any = load_torchscript(path)
    scaling = _Scaling(scales, sigmoid=sigmoid)
    return to_torchscript(_Staged(inner, scaling) if hasattr(inner, "score") else _Whole(inner, scaling))


def run_torchscript(path: Path, prepared: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return what an archive of one input gives for prepared inputs."""
    module: Any = load_torchscript(path)
    (array,) = prepared.values()
    with torch.no_grad():
        found: NDArray[Any] = getattr(module, "score", module)(torch.from_numpy(np.array(array))).numpy()
    return found


class _Scaling(nn.Module):
    """Probabilities [batch, classes] to calibrated ones."""

    def __init__(self, scales: NDArray[np.float64], *, sigmoid: bool) -> None:
        super().__init__()
        self.sigmoid = sigmoid
        self.tiny = _TINY
        self.scales: Tensor
        self.register_buffer("scales", torch.tensor(scales, dtype=torch.float32))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return them as the scaled logits have them."""
        logs = torch.log(torch.clamp(probabilities, min=self.tiny))
        if self.sigmoid:
            logs = logs - torch.log(torch.clamp(1 - probabilities, min=self.tiny))
            return torch.sigmoid(logs * self.scales)
        return torch.softmax(logs * self.scales, dim=-1)


class _Whole(nn.Module):
    """A network and its calibration."""

    def __init__(self, inner: nn.Module, scaling: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.scaling = scaling

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the calibrated probabilities."""
        found: Tensor = self.scaling(self.inner(inputs))
        return found


class _Staged(_Whole):
    """The same with the stages of the whole path from an image, as Pipeline has them."""

    def prepare(self, image: Tensor) -> Tensor:
        """Return the prepared pixels."""
        pixels: Tensor = self.inner.prepare(image)  # type: ignore[operator]
        return pixels

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return the network's input."""
        normalized: Tensor = self.inner.normalize(pixels)  # type: ignore[operator]
        return normalized

    def score(self, pixels: Tensor) -> Tensor:
        """Return the calibrated probabilities for prepared pixels."""
        found: Tensor = self.scaling(self.inner.score(pixels))  # type: ignore[operator]
        return found


# As in ``pipeline``: archives hold the qualified names of their classes.
for _archived in (_Scaling, _Whole, _Staged):
    _archived.__module__ = "truecopy"
