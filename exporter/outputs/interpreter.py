"""Decisions and expected results of eager outputs, independent of the runtime's code."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from exporter.conversion.network_io import Arrays
from runtime.manifest import Output
from runtime.outputs.metrics import Scores

NO_PARTS: Arrays = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decisions of two sets of scores for one case: shares of equal ones, and the worst flip.

    ``margin`` is eager's own, where it was surest of a decision that flipped; None where none did.
    """

    agreement: float
    top_k: float | None
    margin: float | None = None
    expected: str = ""
    got: str = ""


class ReferenceInterpreter(ABC):
    """Gives eager outputs their meaning; what the runtime makes of them is compared with it.

    None of it is the runtime's own code: that is the proof. A task overrides what it does otherwise than the defaults,
    which are those of a task without decisions.
    """

    # What the artifact's outputs, and the network's own, are counted in.
    unit: ClassVar[str] = "values"
    inner_unit: ClassVar[str] = "values"

    # There is one score for each class, as the rows of a file of labels name them.
    has_class_scores: ClassVar[bool] = False

    # Results mean more than the arrays themselves.
    has_meaning: ClassVar[bool] = True

    def __init__(self, task: Any, labels: Sequence[str]) -> None:
        self.task = task
        self.labels = labels

    def decide(self, actual: NDArray[Any], expected: NDArray[Any]) -> Decision | None:
        """Return how the decisions of two arrays of scores compare, each a batch of one; None without any."""
        del actual, expected
        return None

    def decide_all(self, actual: Arrays, expected: Arrays, outputs: Sequence[Output]) -> Decision | None:
        """Return how the decisions of two sets of outputs compare, each a batch of one.

        None for tasks without decisions, and for arrays of another form than the one that decides.
        """
        got, scores = (arrays[outputs[0].name] for arrays in (actual, expected))
        if got.shape != scores.shape and not self.is_label_map(got, scores):
            return None
        return self.decide(got, scores)

    def is_label_map(self, actual: NDArray[Any], expected: NDArray[Any]) -> bool:
        """Return whether ``actual`` holds decisions alone, where ``expected`` holds the scores that they come from."""
        del actual, expected
        return False

    @abstractmethod
    def expected_result(self, outputs: Arrays, parts: Arrays = NO_PARTS) -> Arrays:
        """Return the meaning of eager's outputs, a batch of one, in the form of a result's ``to_arrays``.

        ``parts`` are those of the input that rows of scores belong to, where it has some.

        Names are in the order in which the user gave them.
        """

    @abstractmethod
    def scores_of(self, result: Any, outputs: Sequence[Output]) -> Arrays:
        """Return the scores in a result of the runtime as a batch of one, by the names of the artifact's outputs."""

    def split_batch(self, arrays: Arrays, outputs: Sequence[Output], count: int) -> list[Arrays]:
        """Return the artifact's ``outputs`` for a batch of ``count`` as batches of one.

        An output without a batch dimension belongs to each.
        """
        batched = {output.name for output in outputs if output.batched}
        return [
            {name: array[row : row + 1] if name in batched else array for name, array in arrays.items()}
            for row in range(count)
        ]

    def differences(self, scored: Any, eager: Any) -> dict[str, float | int]:
        """Return how far scores on labeled data, or maps, are from the eager model's, in words.

        Both are ``Scores`` of ``runtime.outputs.metrics``, or both are ``Maps``.
        """
        return {"largest difference of a score": largest_difference(scored, eager)}


def largest_difference(scored: Scores, eager: Scores) -> float:
    """Return the largest absolute difference of scores on the same inputs."""
    return float(np.abs(scored.scores.astype(np.float64) - eager.scores).max())


def compare_decisions(
    same: NDArray[np.bool_],
    margins: NDArray[Any],
    *,
    describe: Callable[[int], tuple[str, str]],
    top_k: float | None = None,
) -> Decision:
    """Return the decision that ``same`` and eager's ``margins``, one entry per decision, come to.

    ``describe`` gives the words for eager's decision, and for the other one, at an index.
    """
    agreement = float(same.mean()) if same.size else 1.0
    if same.all():
        return Decision(agreement=agreement, top_k=top_k)
    index = int(np.argmax(np.where(same, -1.0, margins)))
    expected, got = describe(index)
    return Decision(agreement=agreement, top_k=top_k, margin=float(margins[index]), expected=expected, got=got)


def margins_of_best(scores: NDArray[Any]) -> NDArray[Any]:
    """Return how far the best probability is above the second; the classes are dimension 1, which goes."""
    if scores.shape[1] == 1:
        return np.ones((len(scores), *scores.shape[2:]), dtype=np.float32)
    best = np.partition(scores, -2, axis=1)[:, -2:]
    margins: NDArray[Any] = best[:, 1] - best[:, 0]
    return margins


def to_words(words: Sequence[str]) -> NDArray[Any]:
    """Return strings as an array of objects [words]."""
    return np.array(words, dtype=object)
