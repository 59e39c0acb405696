"""Scores of a variant against those of fp32: decisions, margins and differences."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from exporter.errors import ExportError
from exporter.outputs.registry import open_reference
from exporter.precision.data import Arrays
from runtime.engine.session import open_session
from runtime.manifest import Agreement, Manifest, Task

# How often the interval of a sample has the true share of equal labels in it, at least.
_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sets of scores for the same inputs.

    ``flipped`` are the indices of the inputs with other decisions, ``margins`` fp32's own there, where it was surest,
    and ``decisions`` both of them in words. ``largest`` and ``mean`` are absolute differences of scores.
    """

    inputs: int
    flipped: tuple[int, ...]
    margins: tuple[float, ...]
    decisions: tuple[tuple[str, str], ...]
    largest: float
    mean: float

    @property
    def share(self) -> float:
        """The share of inputs with equal decisions."""
        return 1 - len(self.flipped) / self.inputs

    def agreement(self) -> Agreement:
        """Return the comparison as the manifest has it."""
        equal = self.inputs - len(self.flipped)
        low, high = share_interval(equal, self.inputs)
        return Agreement(
            inputs=self.inputs,
            equal=equal,
            low=low,
            high=high,
            flipped_margin=max(self.margins, default=None),
            score_difference=self.largest,
            mean_score_difference=self.mean,
        )


def check_task(task: Task, name: str) -> None:
    """Raise ExportError for a task without labels: there is no agreement that a variant could be judged by."""
    if not open_reference(task, ()).has_class_scores:
        raise ExportError(
            f"'{name}': a precision is measured by the labels of whole inputs, which a task of {task.kind} does not "
            "give: expected classify, binary or multilabel. Use the fp32 variant."
        )


def compare_scores(
    full: Sequence[Arrays], own: Sequence[Arrays], manifest: Manifest, labels: Sequence[str] = ()
) -> Comparison:
    """Return how a variant's outputs compare with those of fp32, each a batch of one; without labels, by index."""
    output = manifest.outputs[0].name
    classes = manifest.labels.count if manifest.labels is not None else 0
    reference = open_reference(manifest.task, labels or [str(index) for index in range(classes)])
    flipped, margins, decisions, differences = [], [], [], []
    for index, (expected, actual) in enumerate(zip(full, own, strict=True)):
        decision = reference.decide(actual[output], expected[output])
        assert decision is not None, manifest.task
        if decision.margin is not None:
            flipped.append(index)
            margins.append(decision.margin)
            decisions.append((decision.expected, decision.got))
        differences.append(np.abs(actual[output].astype(np.float64) - expected[output]))
    return Comparison(
        inputs=len(full),
        flipped=tuple(flipped),
        margins=tuple(margins),
        decisions=tuple(decisions),
        largest=float(max(difference.max() for difference in differences)),
        mean=float(np.mean([difference.mean() for difference in differences])),
    )


def run_network(model: onnx.ModelProto, inputs: Sequence[Arrays]) -> list[Arrays]:
    """Return a network's outputs for each of ``inputs``, on one thread of the CPU: equal on every run."""
    session = open_session(model.SerializeToString(), device="cpu", threads=1)
    return [session.run(arrays) for arrays in inputs]


def share_interval(equal: int, inputs: int) -> tuple[float, float]:
    """Return the Clopper-Pearson interval, at 95%, of a share of which ``equal`` in ``inputs`` were seen.

    At its ends, as few as were seen, or as many, are seen in one of 40 samples.
    """
    counts = np.arange(inputs + 1)
    logs = np.array([math.lgamma(count + 1) for count in counts])
    combinations = logs[-1] - logs - logs[::-1]

    def chance(share: float, chosen: slice) -> float:
        """Return the probability to see one of the ``chosen`` counts."""
        terms = combinations + counts * math.log(share) + counts[::-1] * math.log1p(-share)
        return float(np.exp(terms[chosen]).sum())

    tail = (1 - _CONFIDENCE) / 2
    low = _bisect(lambda share: chance(share, slice(equal, None)) < tail) if equal else 0.0
    high = _bisect(lambda share: chance(share, slice(equal + 1)) > tail) if equal < inputs else 1.0
    return low, high


def _bisect(is_below: Callable[[float], bool]) -> float:
    """Return where ``is_below``, true of small shares, becomes false."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return high
