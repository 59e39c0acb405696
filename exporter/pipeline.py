"""Preprocessing, network and postprocessing as one module: what TorchScript is made of."""

import torch
from torch import Tensor, nn

from exporter.graphs import Activation
from exporter.preprocessing import Arithmetic, Geometry
from runtime.manifest import Preprocessing


class Pipeline(nn.Module):
    """uint8 images [batch, any height, any width, 3], RGB, to probabilities, float32 [batch, classes]."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, activation: Activation) -> None:
        super().__init__()
        self.geometry = Geometry(preprocessing)
        self.arithmetic = Arithmetic(preprocessing)
        self.network = network
        self.softmax = activation == "softmax"

    def prepare(self, image: Tensor) -> Tensor:
        """Return the prepared pixels, uint8 [batch, height, width, 3]."""
        pixels: Tensor = self.geometry(image)
        return pixels

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return the network's input for prepared pixels, float32 [batch, 3, height, width]."""
        normalized: Tensor = self.arithmetic(pixels)
        return normalized

    def classify(self, pixels: Tensor) -> Tensor:
        """Return the probabilities for prepared pixels."""
        logits: Tensor = self.network(self.normalize(pixels))
        return torch.softmax(logits, dim=-1) if self.softmax else logits

    def forward(self, image: Tensor) -> Tensor:
        """Return the probabilities."""
        return self.classify(self.prepare(image))
