"""Preprocessing, network and postprocessing as one module, for TorchScript."""

from typing import Any

from torch import Tensor, nn

from exporter.inputs.image import Arithmetic, Geometry
from runtime.manifest import Preprocessing


class Pipeline(nn.Module):
    """uint8 images [batch, any height, any width, 3], RGB, to scores, float32 [batch, classes, ...]."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, postprocessing: nn.Module) -> None:
        super().__init__()
        self.geometry = Geometry(preprocessing)
        self.arithmetic = Arithmetic(preprocessing)
        self.network = network
        self.postprocessing = postprocessing

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
        # An archive holds the names of locals: another one here gives other bytes.
        found: Tensor = self.network(normalized)
        return found

    def postprocess(self, logits: Tensor) -> Tensor:
        """Return the scores for the network's own output."""
        scores: Tensor = self.postprocessing(logits)
        return scores

    def score(self, pixels: Tensor) -> Tensor:
        """Return the scores for prepared pixels."""
        return self.postprocess(self.logits(self.normalize(pixels)))

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores."""
        return self.score(self.prepare(image))


class NetworkPipeline(nn.Module):
    """A network and its postprocessing: tensors in by position, as the network takes them."""

    def __init__(self, network: nn.Module, postprocessing: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.postprocessing = postprocessing

    def forward(self, *inputs: Tensor) -> Any:
        """Return the scores; without postprocessing, all that the network gives."""
        outputs = self.network(*inputs)
        return outputs if self.postprocessing is None else self.postprocessing(outputs)


# TorchScript archives hold the qualified names of their classes: these are part of an artifact, and not of our layout.
for _pipeline in (Pipeline, NetworkPipeline):
    _pipeline.__module__ = "truecopy"
