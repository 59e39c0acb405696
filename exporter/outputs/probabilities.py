"""Probabilities of classes: activations and checks that several tasks share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from exporter.conversion.node_builder import NodeBuilder
from exporter.outputs.labels import LabelSource, describe_labels, read_labels
from exporter.outputs.postprocessing import LOGITS, MainOutput, Postprocessing
from runtime.artifact.proof import FORMULA_LIMIT
from runtime.manifest import Classify, Multilabel, Output, Segment, Words

PROBABILITIES = "probabilities"

# Scores that sum to 1 within this are probabilities already: float32 sums of 1000 values are off by less.
_PROBABILITY_SUM = 1e-4


def are_distributions(scores: Tensor, *, dimension: int) -> bool:
    """Return whether scores along a dimension are probabilities already: none negative, and all sums 1."""
    sums = scores.sum(dim=dimension)
    return bool((scores >= 0).all()) and bool(((sums - 1).abs() < _PROBABILITY_SUM).all())


def are_probabilities(scores: Tensor) -> bool:
    """Return whether every score alone could be a probability."""
    return bool(((scores >= 0) & (scores <= 1)).all())


def class_outputs(count: int) -> tuple[Output, ...]:
    """Return the one output of a task with ``count`` probabilities per input."""
    return (Output(name=PROBABILITIES, dtype="float32", shape=("batch", count)),)


@dataclass(frozen=True, kw_only=True)
class ClassPostprocessing(Postprocessing):
    """Postprocessing of a task with one probability for each class.

    ``scales`` are those of an artifact that was calibrated, which its logits are multiplied by; none before that.
    """

    task: Classify | Multilabel | Segment | Words
    scales: tuple[float, ...] = ()

    # Which dimension of the output the classes are.
    dimension: ClassVar[int] = -1

    @property
    def finding(self) -> str:
        """What was added, in words."""
        if self.activation == "none":
            return "the network gives probabilities itself: none added"
        if self.activation == "binary":
            return "one logit: sigmoid added, both classes' probabilities given"
        if self.activation == "complement":
            return "one probability: both classes' given"
        return f"{self.activation} added"

    @property
    def computes(self) -> bool:
        """Whether anything is computed after the network."""
        return super().computes or bool(self.scales)

    @property
    def least_limit(self) -> float:
        """How far scores may be apart by the formulas of the forms alone: TorchScript scales probabilities."""
        return FORMULA_LIMIT if self.scales else 0.0

    def module(self) -> nn.Module:
        """Return the activation as a module that TorchScript can compile, with the scales where there are some."""
        if not self.scales:
            return self._activation()
        if self.activation in ("none", "complement"):
            logits = nn.Sequential(self._activation(), _Logits(sigmoid=isinstance(self.task, Multilabel)))
            end = _Sigmoid() if isinstance(self.task, Multilabel) else _Softmax(self.dimension)
            return nn.Sequential(logits, _Scale(self.scales), end)
        return nn.Sequential(_Scale(self.scales), self._activation())

    def _activation(self) -> nn.Module:
        if self.activation == "softmax":
            return _Softmax(self.dimension)
        if self.activation == "binary" and self.dimension != -1:
            return _BinaryMaps()
        modules = {"sigmoid": _Sigmoid, "binary": _Binary, "complement": _Complement}
        return modules.get(self.activation, MainOutput)()

    def add_nodes(self, nodes: NodeBuilder) -> None:
        """Append the activation."""
        output = self.outputs[0].name
        if self.activation == "softmax":
            nodes.add("Softmax", LOGITS, axis=self.dimension, output=output)
        elif self.activation == "sigmoid":
            nodes.add("Sigmoid", LOGITS, output=output)
        elif self.activation == "binary":
            # Both from the logit: 1 - sigmoid would lose the small one's digits.
            logit = nodes.add("Reshape", LOGITS, nodes.integers(-1, 1)) if self.dimension == -1 else LOGITS
            both = nodes.add("Concat", nodes.add("Neg", logit), logit, axis=1)
            nodes.add("Sigmoid", both, output=output)
        elif self.activation == "complement":
            one = nodes.floats([1.0], shape=[1], name="one")
            nodes.add("Concat", nodes.add("Sub", one, LOGITS), LOGITS, axis=1, output=output)
        else:
            nodes.add("Identity", LOGITS, output=output)

    def read_labels(
        self, source: LabelSource | None, assume: Callable[[int], tuple[tuple[str, ...], str]]
    ) -> tuple[tuple[str, ...], str]:
        """Return the class names that the user gave, or assumed ones, and where they are from."""
        classes = self.task.labels.count
        if source is None:
            return assume(classes)
        # One output stands for two classes, of which people name the one that it is about.
        one = "Name the class that its one output is not about before it, such as 'background' before 'polyp'."
        labels = read_labels(source, classes=classes, fix=one if self.activation in ("binary", "complement") else "")
        return labels, describe_labels(labels, source)


class _Softmax(nn.Module):
    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=self.dimension)


class _Sigmoid(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)


class _Binary(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        logit = logits.reshape(-1, 1)
        return torch.sigmoid(torch.cat((-logit, logit), dim=1))


class _BinaryMaps(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(torch.cat((-logits, logits), dim=1))


class _Complement(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return torch.cat((1 - logits, logits), dim=1)


class _Logits(nn.Module):
    """Probabilities to logits, up to a constant that a softmax drops."""

    def __init__(self, *, sigmoid: bool) -> None:
        super().__init__()
        self.sigmoid = sigmoid

    def forward(self, probabilities: Tensor) -> Tensor:
        tiny = torch.finfo(torch.float32).tiny
        logs = torch.log(probabilities.clamp(min=tiny))
        return logs - torch.log((1 - probabilities).clamp(min=tiny)) if self.sigmoid else logs


class _Scale(nn.Module):
    """Logits times the scales of a calibration, as float32 has them."""

    scales: Tensor

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("scales", torch.tensor(scales, dtype=torch.float32))

    def forward(self, logits: Tensor) -> Tensor:
        return logits * self.scales.to(logits.dtype)


def sorted_labels(labels: Sequence[str], indices: Sequence[int]) -> list[str]:
    """Return the names of classes in alphabetical order."""
    return sorted(labels[int(index)] for index in indices)
