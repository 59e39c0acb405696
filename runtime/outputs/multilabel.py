"""Multilabel classification: any number of classes, each with its own threshold."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.manifest import Multilabel
from runtime.outputs.interpreter import Interpreter, ScoredLabel, words_to_array
from runtime.outputs.shown import ShownResult

if TYPE_CHECKING:
    from runtime.outputs.metrics import Evaluation, Maps, Scores

# What stands between the labels of one cell.
_SEPARATOR = ";"


class LabelSet(ShownResult, frozen=True, kw_only=True, omit_defaults=True):
    """The result of ``multilabel``: the classes that reached their thresholds, in falling order; perhaps none.

    ``precision`` names the variant that the scores are of, and is left out for fp32 alone.
    """

    input: str
    labels: tuple[ScoredLabel, ...]
    precision: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the row: plain dictionaries, lists, strings and numbers."""
        row: dict[str, Any] = msgspec.to_builtins(self)
        return {**row, "labels": list(row["labels"])}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the labels, sorted, as an array; probabilities are left out."""
        return {"labels": words_to_array(sorted(scored.label for scored in self.labels))}

    def __str__(self) -> str:
        labels = ", ".join(f"{scored.label} ({scored.probability:.1%})" for scored in self.labels)
        return f"{self.input}: {labels or 'none'}"


class MultilabelInterpreter(Interpreter):
    """Gives probabilities, float32 [classes], their meaning: a LabelSet."""

    task: Multilabel
    result_type = LabelSet
    must_be_finite = True
    has_class_scores = True
    is_evaluated = True

    def interpret(self, scores: Any, *, name: str, top_k: int, threshold: float | None) -> LabelSet:
        """Return the classes that reach ``threshold``, or their own ones of the manifest where it is None."""
        del top_k
        reached = scores >= (self._thresholds if threshold is None else threshold)
        order = [index for index in np.argsort(-scores, kind="stable") if reached[index]]
        return LabelSet(
            input=name,
            labels=tuple(
                ScoredLabel(label=self.labels[index], index=int(index), probability=float(scores[index]))
                for index in order
            ),
        )

    def margins(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Return how far the nearest probability of each row is from its threshold."""
        margins: NDArray[Any] = np.abs(scores - self._thresholds).min(axis=1)
        return margins

    def truth_of_class(self, index: int) -> list[bool]:
        """Return one bool per class: the folder's class alone holds."""
        return self._holding([index])

    def read_truth(self, cells: Mapping[str, Any], *, name: str, folder: Path) -> list[bool]:
        """Return one bool per class for the labels of the only cell, which ``;`` separates."""
        from runtime.outputs.metrics import index_of_label

        del folder
        (cell,) = cells.values()
        parts = [part.strip() for part in str(cell).split(_SEPARATOR) if part.strip()]
        return self._holding([index_of_label(part, self.labels, name=name) for part in parts])

    def evaluate(self, scored: "Scores | Maps", *, name: str) -> "Evaluation":
        """Return the share of inputs with exactly the true labels, calibration error, and the metrics of each class."""
        from runtime.outputs.metrics import Evaluation, Scores, calibration_error, class_figures

        assert isinstance(scored, Scores)
        truth = scored.truth.astype(bool)
        predicted = scored.scores >= self._thresholds
        return Evaluation(
            artifact=name,
            task=self.task.kind,
            inputs=len(truth),
            failures=dict(scored.failures),
            accuracy=float((predicted == truth).all(axis=1).mean()),
            calibration_error=calibration_error(*self.confidences(scored.scores, truth)),
            classes=tuple(
                class_figures(label, (truth & predicted)[:, row].sum(), predicted[:, row].sum(), truth[:, row].sum())
                for row, label in enumerate(self.labels)
            ),
        )

    def confidences(self, scores: NDArray[Any], truth: NDArray[Any]) -> tuple[Any, Any]:
        """Return the probability of every class of every input, and whether it holds: float [n], bool [n]."""
        return scores.ravel(), truth.ravel().astype(bool)

    @property
    def _thresholds(self) -> NDArray[np.float32]:
        return np.asarray(self.task.thresholds, dtype=np.float32)

    def _holding(self, indices: list[int]) -> list[bool]:
        return [index in indices for index in range(len(self.labels))]
