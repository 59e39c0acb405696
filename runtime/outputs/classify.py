"""Classification: the best class of several, with its probability."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.manifest import Classify
from runtime.outputs.interpreter import Interpreter, ScoredLabel, words_to_array
from runtime.outputs.shown import ShownResult

if TYPE_CHECKING:
    from runtime.outputs.metrics import Evaluation, Maps, Scores

UNKNOWN = "unknown"

# So many classes are found one by one; more are sorted.
_FEW = 20

_TOP = 5


class Prediction(ShownResult, frozen=True, kw_only=True, omit_defaults=True):
    """The result of ``classify`` for one input: the best class, and the ``top`` classes in falling order.

    Under the threshold, ``label`` is ``"unknown"`` and ``index`` -1; ``probability`` stays that of the best class.
    ``precision`` names the variant that the scores are of, and is left out for fp32 alone.
    """

    input: str
    label: str
    index: int
    probability: float
    top: tuple[ScoredLabel, ...]
    precision: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the row: plain dictionaries, lists, strings and numbers."""
        row: dict[str, Any] = msgspec.to_builtins(self)
        return {**row, "top": list(row["top"])}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the labels, best first, as an array; probabilities are left out."""
        return {"label": words_to_array([self.label, *(scored.label for scored in self.top)])}

    def __str__(self) -> str:
        return f"{self.input}: {self.label} ({self.probability:.1%})"


class ClassifyInterpreter(Interpreter):
    """Gives probabilities, float32 [classes], their meaning: a Prediction."""

    task: Classify
    result_type = Prediction
    must_be_finite = True
    has_class_scores = True
    is_evaluated = True

    def interpret(self, scores: Any, *, name: str, top_k: int, threshold: float | None) -> Prediction:
        """Return the prediction for one input.

        At most ``top_k`` classes are listed; a best probability below ``threshold`` makes the label ``"unknown"``.
        """
        labels = self.labels
        top = tuple(
            ScoredLabel(label=labels[index], index=index, probability=float(scores[index]))
            for index in _largest(scores, top_k)
        )
        best = top[0]
        known = best.probability >= (threshold or 0.0)
        return Prediction(
            input=name,
            label=best.label if known else UNKNOWN,
            index=best.index if known else -1,
            probability=best.probability,
            top=top,
        )

    def margins(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Return how far the best probability of each row is above the second."""
        if scores.shape[1] == 1:
            return np.ones(len(scores), dtype=scores.dtype)
        second, best = np.partition(scores, -2, axis=1)[:, -2:].T
        margins: NDArray[Any] = best - second
        return margins

    def read_truth(self, cells: Mapping[str, Any], *, name: str, folder: Path) -> int:
        """Return the index of the class that the only cell names."""
        from runtime.outputs.metrics import index_of_label

        del folder
        (cell,) = cells.values()
        return index_of_label(cell, self.labels, name=name)

    def evaluate(self, scored: "Scores | Maps", *, name: str) -> "Evaluation":
        """Return accuracy, top-5 accuracy, calibration error, the confusion matrix and the metrics of each class."""
        from runtime.outputs.metrics import Evaluation, Scores, calibration_error, class_figures, confusion_matrix

        assert isinstance(scored, Scores)
        scores, truth = scored.scores, scored.truth
        predicted = scores.argmax(axis=1)
        count = min(_TOP, scores.shape[1])
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        confusion = confusion_matrix(truth, predicted, scores.shape[1])
        return Evaluation(
            artifact=name,
            task=self.task.kind,
            inputs=len(scores),
            failures=dict(scored.failures),
            accuracy=float((predicted == truth).mean()),
            top5=float((best == truth[:, np.newaxis]).any(axis=1).mean()),
            calibration_error=calibration_error(*self.confidences(scores, truth)),
            classes=tuple(
                class_figures(label, confusion[row, row], confusion[:, row].sum(), confusion[row].sum())
                for row, label in enumerate(self.labels)
            ),
            confusion=tuple(tuple(map(int, row)) for row in confusion),
        )

    def confidences(self, scores: NDArray[Any], truth: NDArray[Any]) -> tuple[Any, Any]:
        """Return the probability of each input's best class, and whether it is the true one: float [n], bool [n]."""
        best = scores.argmax(axis=1)
        return scores[np.arange(len(scores)), best], best == truth


def _largest(scores: NDArray[np.float32], count: int) -> Sequence[int]:
    """Return the indices of the ``count`` largest finite scores, largest first; of equal ones, the first is first."""
    count = min(count, len(scores))
    if count > _FEW:
        order: list[int] = np.argsort(-scores, kind="stable")[:count].tolist()
        return order
    # Of a thousand classes, looking for the largest five times takes a third of the time of sorting a part of them.
    rest = scores.copy()
    found = []
    for _ in range(count):
        index = int(rest.argmax())
        found.append(index)
        rest[index] = -np.inf
    return found
