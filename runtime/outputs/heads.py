"""Several heads: a result per head, each with a task of its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.manifest import Head, Heads
from runtime.outputs.interpreter import Interpreter, stack_rows
from runtime.outputs.registry import open_interpreter
from runtime.outputs.shown import ShownResult

if TYPE_CHECKING:
    from runtime.outputs.metrics import Evaluation, Maps, Scores


class HeadResults(ShownResult, frozen=True, kw_only=True):
    """The result of ``heads``: what each head predicts, by its name, such as a Prediction or an Estimate."""

    input: str
    heads: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the row: what the head's own task gives, by the head's name."""
        return {"input": self.input, "heads": {name: _without_input(head) for name, head in self.heads.items()}}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of each head, as ``head.name``."""
        return {f"{name}.{key}": array for name, head in self.heads.items() for key, array in head.to_arrays().items()}

    def __str__(self) -> str:
        shown = (f"{name} {str(head).removeprefix(f'{self.input}: ')}" for name, head in self.heads.items())
        return f"{self.input}: {'; '.join(shown)}"


class HeadsInterpreter(Interpreter):
    """Gives the arrays of each head their meaning: HeadResults."""

    task: Heads
    result_type = HeadResults
    must_be_finite = True
    is_evaluated = True

    def __init__(self, task: Heads, labels: Sequence[str]) -> None:
        super().__init__(task, labels)
        self._heads = {head.name: open_interpreter(head.task, own) for head, own in labels_of_heads(task, labels)}

    def split(
        self, outputs: Mapping[str, NDArray[Any]], *, batched: frozenset[str], count: int
    ) -> Sequence[dict[str, NDArray[Any]]]:
        """Return one dictionary per input, with the scores of each head."""
        del batched
        return [{name: array[row] for name, array in outputs.items()} for row in range(count)]

    def join(
        self, entries: Sequence[Mapping[str, NDArray[Any]]], *, names: Sequence[str], batched: frozenset[str]
    ) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        del batched
        return {name: stack_rows(name, [entry[name] for entry in entries]) for name in names}

    def is_finite(self, scores: Mapping[str, NDArray[Any]]) -> bool:
        """Return whether the scores of every head are finite."""
        return all(bool(np.isfinite(array).all()) for array in scores.values())

    def interpret(self, scores: Any, *, name: str, top_k: int, threshold: float | None) -> HeadResults:
        """Return what each head predicts; ``top_k`` and ``threshold`` are for every one."""
        return HeadResults(
            input=name,
            heads={
                head: interpreter.interpret(scores[head], name=name, top_k=top_k, threshold=threshold)
                for head, interpreter in self._heads.items()
            },
        )

    def truth_columns(self, column: str) -> list[str]:
        """Return the columns of all heads: a head's own name, and the names of a regression's values."""
        del column
        return [key for head, interpreter in self._heads.items() for key in interpreter.truth_columns(head)]

    def truth_of_class(self, index: int) -> Any:
        """Raise InputError: a folder says the class of one head."""
        raise InputError(
            f"folder '{self.labels[index]}': says one class, and this model has {len(self._heads)} heads. Give a table "
            f"with a column for each: {', '.join(self.truth_columns(''))}."
        )

    def read_truth(self, cells: Mapping[str, Any], *, name: str, folder: Path) -> dict[str, Any]:
        """Return the truth of each head, from its own columns."""
        return {
            head: interpreter.read_truth(
                {key: cells[key] for key in interpreter.truth_columns(head)}, name=name, folder=folder
            )
            for head, interpreter in self._heads.items()
        }

    def evaluate(self, scored: "Scores | Maps", *, name: str) -> "Evaluation":
        """Return the metrics of each head."""
        from runtime.outputs.metrics import Evaluation, Scores

        assert isinstance(scored, Scores)
        heads = {
            head: interpreter.evaluate(
                replace(scored, scores=scored.scores[head], truth=scored.truth[head]), name=f"{name}, head '{head}'"
            )
            for head, interpreter in self._heads.items()
        }
        return Evaluation(
            artifact=name,
            task=self.task.kind,
            inputs=len(scored.names),
            failures=dict(scored.failures),
            heads=heads,
        )


def labels_of_heads(task: Heads, labels: Sequence[str]) -> Iterator[tuple[Head, Sequence[str]]]:
    """Yield each head with its own class names: the file has those of all, one head after the other."""
    start = 0
    for head in task.heads:
        count = head.task.labels.count if head.task.labels is not None else 0
        yield head, labels[start : start + count]
        start += count


def _without_input(result: Any) -> dict[str, Any]:
    return {key: value for key, value in result.to_dict().items() if key != "input"}
