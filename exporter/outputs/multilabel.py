"""Multilabel classification: any number of classes, each with its own threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.conversion.network_io import Arrays
from exporter.errors import ExportError
from exporter.options.task import TaskOptions
from exporter.outputs.interpreter import NO_PARTS, Decision, ReferenceInterpreter, compare_decisions, to_words
from exporter.outputs.postprocessing import check_logits, main_outputs, to_rows
from exporter.outputs.probabilities import ClassPostprocessing, are_probabilities, class_outputs, sorted_labels
from runtime.manifest import Labels, Multilabel, Output
from runtime.outputs.multilabel import LabelSet

_THRESHOLD = 0.5


class MultilabelReference(ReferenceInterpreter):
    """Gives eager's probabilities their meaning: the classes that reach their thresholds."""

    task: Multilabel
    unit = "probability"
    inner_unit = "logits"
    has_class_scores = True

    def decide(self, actual: NDArray[Any], expected: NDArray[Any]) -> Decision:
        """Return whether each class is on the same side of its threshold."""
        thresholds = self._thresholds
        above, reached = actual[0] >= thresholds, expected[0] >= thresholds

        def describe(index: int) -> tuple[str, str]:
            sides = ("above", "below") if reached[index] else ("below", "above")
            return f"{self.labels[index]} {sides[0]}", f"{self.labels[index]} {sides[1]}"

        margins = np.abs(expected[0].astype(np.float64) - thresholds)
        return compare_decisions(above == reached, margins, describe=describe)

    def expected_result(self, outputs: Arrays, parts: Arrays = NO_PARTS) -> Arrays:
        """Return the labels of the classes that hold, sorted."""
        del parts
        (scores,) = (array[0] for array in outputs.values())
        return {"labels": to_words(sorted_labels(self.labels, list(np.flatnonzero(scores >= self._thresholds))))}

    def scores_of(self, result: LabelSet, outputs: Sequence[Output]) -> Arrays:
        """Return the probabilities of the classes in a set; NaN for the others."""
        scores = np.full((1, self.task.labels.count), np.nan, dtype=np.float32)
        for scored in result.labels:
            scores[0, scored.index] = scored.probability
        return {outputs[0].name: scores}

    @property
    def _thresholds(self) -> NDArray[np.float32]:
        return np.asarray(self.task.thresholds, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class MultilabelPostprocessing(ClassPostprocessing):
    """Probabilities of classes that may all hold, float32 [batch, classes]."""

    task: Multilabel
    interpreter = MultilabelReference

    @classmethod
    def infer(
        cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str
    ) -> "MultilabelPostprocessing":
        """Return a sigmoid for logits [batch, classes], and nothing for probabilities."""
        logits = main_outputs(
            values, dimensions=(2,), expected="[batch, classes]", kind="fit for --task multilabel", name=name
        )
        check_logits(logits, name, exclusive=False)
        rows = to_rows(logits)
        count = rows.shape[1]
        thresholds = options.thresholds or (_THRESHOLD,)
        thresholds = thresholds * count if len(thresholds) == 1 else thresholds
        if len(thresholds) != count or not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ExportError(
                f"thresholds: expected {count} probabilities, one per class, or one for all, got {len(thresholds)}: "
                f"{', '.join(f'{threshold:g}' for threshold in thresholds[:10])}. Correct --thresholds."
            )
        return cls(
            task=Multilabel(labels=Labels(file=labels_file, count=count), thresholds=thresholds),
            activation="none" if are_probabilities(rows) else "sigmoid",
            outputs=class_outputs(count),
        )

    @classmethod
    def options_of(cls, task: Multilabel, value: Any) -> TaskOptions:
        """Return the task with its thresholds."""
        del value
        return TaskOptions(task="multilabel", thresholds=task.thresholds)
