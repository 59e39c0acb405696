"""Interface of a task: from scores to results, truths and metrics."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError

if TYPE_CHECKING:
    from runtime.outputs.metrics import Evaluation, Maps, Scores


class ScoredLabel(msgspec.Struct, frozen=True, kw_only=True):
    """One class with its probability."""

    label: str
    index: int
    probability: float


class Interpreter(ABC):
    """Gives the scores of one model their meaning.

    ``task`` is the manifest's, ``labels`` are the class names in the order of the scores, or the words of tokens. A
    task overrides what it does otherwise than the defaults: one array of scores per input, finite, without pictures
    and without metrics.
    """

    # What ``interpret`` returns: a struct with ``input``, ``to_dict`` and ``to_arrays``.
    result_type: ClassVar[type[msgspec.Struct]]

    # NaN and infinity are no probabilities and no values: an input that comes to them has a Failure.
    must_be_finite: ClassVar[bool] = False

    # There is one score for each class, as the rows of a file of labels name them.
    has_class_scores: ClassVar[bool] = False

    # Results are label maps, which can be drawn, and whose truth is a mask.
    gives_maps: ClassVar[bool] = False

    # Results name parts of the input, which ``Model.split`` adds to the scores; see ``runtime/outputs/parts.py``.
    names_parts: ClassVar[bool] = False

    # ``evaluate`` compares scores with labeled data.
    is_evaluated: ClassVar[bool] = False

    def __init__(self, task: Any, labels: Sequence[str]) -> None:
        self.task = task
        self.labels = labels

    def split(self, outputs: Mapping[str, NDArray[Any]], *, batched: frozenset[str], count: int) -> Sequence[Any]:
        """Return a graph's outputs for a batch of ``count`` inputs as one entry per input, which ``interpret`` takes.

        ``batched`` are the outputs with a batch dimension.
        """
        del batched, count
        (scores,) = outputs.values()
        return scores  # type: ignore[return-value]  # its rows are the entries

    def join(self, entries: Sequence[Any], *, names: Sequence[str], batched: frozenset[str]) -> dict[str, NDArray[Any]]:
        """Return the graph's outputs ``names`` of a batch of inputs from the entries that ``split`` gives for them.

        Raises InputError where the entries differ in shape.
        """
        del batched
        (name,) = names
        return {name: stack_rows(name, entries)}

    def trim(self, outputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return a graph's outputs, a batch of one, without the padding that neighbors in a batch add."""
        return outputs

    def is_finite(self, scores: Any) -> bool:
        """Return whether all scores of one entry of ``split`` are finite."""
        return bool(np.isfinite(scores).all())

    @abstractmethod
    def interpret(self, scores: Any, *, name: str, top_k: int, threshold: float | None) -> Any:
        """Return what one entry of ``split`` means for the input ``name``.

        ``threshold`` replaces the manifest's own unless it is None; ``top_k`` bounds the classes that are listed.
        """

    def margins(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Return for each row of a batch of scores how much they may change, at least, before its labels do."""
        raise NotImplementedError(f"a task of {self.task.kind} has no labels")

    def draw(self, result: Any) -> NDArray[np.uint8]:
        """Return the picture of a result, uint8 [height, width, 3], RGB. Only of tasks that give maps."""
        raise NotImplementedError(f"a task of {self.task.kind} draws no pictures")

    def truth_columns(self, column: str) -> list[str]:
        """Return the columns of a table of labeled data that hold the truth; ``column`` is the one the user named."""
        return [column]

    def truth_of_class(self, index: int) -> Any:
        """Return the truth of an input that lies in the folder of a class."""
        return index

    def read_truth(self, cells: Mapping[str, Any], *, name: str, folder: Path) -> Any:
        """Return the truth that the cells of ``truth_columns`` hold for the input ``name``.

        Paths in cells are relative to ``folder``. Raises InputError for a cell that says no truth.
        """
        del cells, folder
        raise InputError(
            f"'{name}': no truth: a task of {self.task.kind} cannot be compared with labeled data. Compare its outputs "
            "yourself, with predict()."
        )

    def evaluate(self, scored: "Scores | Maps", *, name: str) -> "Evaluation":
        """Return the metrics of scores on labeled data; ``name`` is the model's in them."""
        raise NotImplementedError(f"a task of {self.task.kind} has no metrics")

    def confidences(self, scores: NDArray[Any], truth: NDArray[Any]) -> tuple[Any, Any]:
        """Return how sure the model is of each statement, and whether it is right: float [n], bool [n]."""
        raise NotImplementedError(f"a task of {self.task.kind} has no probabilities")


def stack_rows(name: str, rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the output ``name`` of a batch from its rows; raises InputError where they differ in shape."""
    shapes = {row.shape for row in rows}
    if len(shapes) > 1:
        raise InputError(
            f"output '{name}': rows differ in shape: {sorted(shapes)}. Send these inputs in separate requests."
        )
    return np.stack(rows)


def words_to_array(words: Sequence[str]) -> NDArray[Any]:
    """Return strings as an array of objects [words]."""
    return np.array(words, dtype=object)
