"""Classification: the best class of several, or of two that have one logit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.conversion.network_io import Arrays, main_output
from exporter.errors import ConversionError
from exporter.options.task import TaskOptions
from exporter.outputs.interpreter import (
    NO_PARTS,
    Decision,
    ReferenceInterpreter,
    compare_decisions,
    margins_of_best,
    to_words,
)
from exporter.outputs.postprocessing import check_logits, main_outputs, to_rows
from exporter.outputs.probabilities import ClassPostprocessing, are_distributions, are_probabilities, class_outputs
from runtime.manifest import Classify, Labels, Output
from runtime.outputs.classify import Prediction
from runtime.outputs.metrics import Scores

# As many classes as a prediction lists by default.
_TOP_K = 5


class ClassifyReference(ReferenceInterpreter):
    """Gives eager's probabilities their meaning: the classes in falling order."""

    task: Classify
    unit = "probability"
    inner_unit = "logits"
    has_class_scores = True

    def decide(self, actual: NDArray[Any], expected: NDArray[Any]) -> Decision:
        """Return whether the best class is the same, and the set of the best ones."""
        got, best = np.argmax(actual, axis=1), np.argmax(expected, axis=1)
        top_k = None
        if expected.shape[1] > 1:
            count = min(_TOP_K, expected.shape[1] - 1)
            top_k = float(set(np.argsort(-actual[0], kind="stable")[:count]) == set(np.argsort(-expected[0])[:count]))
        return compare_decisions(
            got == best,
            margins_of_best(expected),
            describe=lambda row: (self.labels[int(best[row])], self.labels[int(got[row])]),
            top_k=top_k,
        )

    def expected_result(self, outputs: Arrays, parts: Arrays = NO_PARTS) -> Arrays:
        """Return the best label, and the labels in falling order."""
        del parts
        (scores,) = (array[0] for array in outputs.values())
        order = [int(index) for index in np.argsort(-scores, kind="stable")[:_TOP_K]]
        return {"label": to_words([self.labels[order[0]], *(self.labels[index] for index in order)])}

    def scores_of(self, result: Prediction, outputs: Sequence[Output]) -> Arrays:
        """Return the probabilities of the classes that a prediction lists; NaN for the others."""
        scores = np.full((1, self.task.labels.count), np.nan, dtype=np.float32)
        for scored in result.top:
            scores[0, scored.index] = scored.probability
        return {outputs[0].name: scores}

    def differences(self, scored: Scores, eager: Scores) -> dict[str, float | int]:
        """Return the largest difference of a score, and how many inputs have another best class."""
        flipped = int((scored.scores.argmax(axis=1) != eager.scores.argmax(axis=1)).sum())
        return {**super().differences(scored, eager), "inputs with another label": flipped}


@dataclass(frozen=True, kw_only=True)
class ClassifyPostprocessing(ClassPostprocessing):
    """Probabilities of classes that sum to one, float32 [batch, classes]."""

    task: Classify
    interpreter = ClassifyReference

    @classmethod
    def infer(
        cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str
    ) -> "ClassifyPostprocessing":
        """Return a softmax for logits [batch, classes], and nothing for probabilities."""
        del options
        logits = main_outputs(values, dimensions=(2,), expected="[batch, classes]", kind="a classifier", name=name)
        check_logits(logits, name, exclusive=True)
        rows = to_rows(logits)
        count = rows.shape[1]
        if count == 1:
            raise ConversionError(
                f"'{name}': one score per input: expected one per class for --task classify. Use --task binary if it "
                "is the logit of the second of two classes, or --task regress if it is a number."
            )
        return ClassifyPostprocessing(
            task=Classify(labels=Labels(file=labels_file, count=count)),
            activation="none" if are_distributions(rows, dimension=-1) else "softmax",
            outputs=class_outputs(count),
        )

    @classmethod
    def options_of(cls, task: Classify, value: Any) -> TaskOptions:
        """Return the task: binary where the network has one logit."""
        del task
        main = main_output(value)
        return TaskOptions(task="binary" if main is not None and main.numel() == 1 else "classify")


class BinaryPostprocessing(ClassifyPostprocessing):
    """Classification of two classes by one logit; the artifact has the probabilities of both."""

    @classmethod
    def infer(
        cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str
    ) -> "ClassifyPostprocessing":
        """Return a sigmoid of the logit [batch, 1] or [batch] and of its negative."""
        del options
        logits = main_outputs(values, dimensions=(1, 2), expected="[batch, 1]", kind="fit for --task binary", name=name)
        check_logits(logits, name, exclusive=False)
        rows = to_rows(logits)
        count = rows.shape[1]
        if count != 1:
            raise ConversionError(
                f"'{name}': not one logit: expected an output [batch, 1] or [batch] for --task binary, got "
                f"[batch, {count}]. Use --task classify for one logit per class."
            )
        if are_probabilities(rows):
            raise ConversionError(
                f"'{name}': looks like a probability already: expected one logit for --task binary, got values from "
                f"{float(rows.min()):g} to {float(rows.max()):g}. Drop the sigmoid from its forward, or use --task raw."
            )
        task = Classify(labels=Labels(file=labels_file, count=2))
        return ClassifyPostprocessing(task=task, activation="binary", outputs=class_outputs(2))
