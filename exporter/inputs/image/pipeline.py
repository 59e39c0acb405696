"""Preprocessing, network and ending as one module: what TorchScript is made of."""

from typing import Any

from torch import Tensor, nn

from exporter.inputs.image import Arithmetic, Geometry
from runtime.manifest import Preprocessing


class Pipeline(nn.Module):
    """uint8 images [batch, any height, any width, 3], RGB, to scores, float32 [batch, classes, ...]."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, ending: nn.Module) -> None:
        super().__init__()
        self.geometry = Geometry(preprocessing)
        self.arithmetic = Arithmetic(preprocessing)
        self.network = network
        self.ending = ending

    def prepare(self, image: Tensor) -> Tensor:
        """Return the prepared pixels, uint8 [batch, height, width, 3]."""
        pixels: Tensor = self.geometry(image)
        return pixels

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return the network's input for prepared pixels, float32 [batch, 3, height, width]."""
        normalized: Tensor = self.arithmetic(pixels)
        return normalized

    def logits(self, normalized: Tensor) -> Tensor:
        """Return the network's own output for its input."""
        found: Tensor = self.network(normalized)
        return found

    def end(self, logits: Tensor) -> Tensor:
        """Return the scores for the network's own output."""
        scores: Tensor = self.ending(logits)
        return scores

    def classify(self, pixels: Tensor) -> Tensor:
        """Return the scores for prepared pixels."""
        return self.end(self.logits(self.normalize(pixels)))

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores."""
        return self.classify(self.prepare(image))


class Ended(nn.Module):
    """A network and its ending: tensors in by position, as the network takes them."""

    def __init__(self, network: nn.Module, ending: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.ending = ending

    def forward(self, *inputs: Tensor) -> Any:
        """Return the scores; without an ending, all that the network gives."""
        found = self.network(*inputs)
        return found if self.ending is None else self.ending(found)


# TorchScript archives hold the qualified names of their classes: these are part of an artifact, and not of our layout.
for _archived in (Pipeline, Ended):
    _archived.__module__ = "truecopy"
