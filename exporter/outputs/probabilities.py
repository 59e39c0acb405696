"""Probabilities of classes: activations and checks that several tasks share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from exporter.conversion.node_builder import NodeBuilder
from exporter.outputs.labels import LabelSource, describe_labels, read_labels
from exporter.outputs.postprocessing import LOGITS, MainOutput, Postprocessing
from runtime.manifest import Classify, Multilabel, Output, Segment

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
    """Postprocessing of a task with one probability for each class."""

    task: Classify | Multilabel | Segment

    # Which dimension of the output the classes are.
    dimension: ClassVar[int] = -1

    @property
    def finding(self) -> str:
        """What was added, in words."""
        if self.activation == "none":
            return "the network gives probabilities itself: none added"
        if self.activation == "binary":
            return "one logit: sigmoid added, both classes' probabilities given"
        return f"{self.activation} added"

    def module(self) -> nn.Module:
        """Return the activation as a module that TorchScript can compile."""
        if self.activation == "softmax":
            return _Softmax(self.dimension)
        return {"sigmoid": _Sigmoid, "binary": _Binary}.get(self.activation, MainOutput)()

    def add_nodes(self, nodes: NodeBuilder) -> None:
        """Append the activation."""
        output = self.outputs[0].name
        if self.activation == "softmax":
            nodes.add("Softmax", LOGITS, axis=self.dimension, output=output)
        elif self.activation == "sigmoid":
            nodes.add("Sigmoid", LOGITS, output=output)
        elif self.activation == "binary":
            # Both from the logit: 1 - sigmoid would lose the small one's digits.
            logit = nodes.add("Reshape", LOGITS, nodes.integers(-1, 1))
            both = nodes.add("Concat", nodes.add("Neg", logit), logit, axis=1)
            nodes.add("Sigmoid", both, output=output)
        else:
            nodes.add("Identity", LOGITS, output=output)

    def read_labels(
        self, source: LabelSource | None, assume: Callable[[int], tuple[tuple[str, ...], str]]
    ) -> tuple[tuple[str, ...], str]:
        """Return the class names that the user gave, or assumed ones, and where they are from."""
        classes = self.task.labels.count
        if source is None:
            return assume(classes)
        labels = read_labels(source, classes=classes)
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


def sorted_labels(labels: Sequence[str], indices: Sequence[int]) -> list[str]:
    """Return the names of classes in alphabetical order."""
    return sorted(labels[int(index)] for index in indices)
