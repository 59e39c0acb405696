"""Scores to meaning: what a prediction looks like, in Python and as a row; one type a task."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.manifest import (
    Classify,
    Entries,
    Items,
    Multilabel,
    Raw,
    Regress,
    Segment,
    Structure,
    Task,
    TensorLeaf,
    Tokens,
)

UNKNOWN = "unknown"


class ScoredLabel(msgspec.Struct, frozen=True, kw_only=True):
    """One class with its probability."""

    label: str
    index: int
    probability: float


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``classify`` for one input: the best class, and the ``top`` classes in falling order.

    Under the threshold, ``label`` is ``"unknown"`` and ``index`` -1; ``probability`` stays that of the best class.
    """

    input: str
    label: str
    index: int
    probability: float
    top: tuple[ScoredLabel, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the row: plain dictionaries, lists, strings and numbers."""
        row: dict[str, Any] = msgspec.to_builtins(self)
        return {**row, "top": list(row["top"])}

    def __str__(self) -> str:
        return f"{self.input}: {self.label} ({self.probability:.1%})"


class LabelSet(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``multilabel``: the classes that reached their thresholds, in falling order; perhaps none."""

    input: str
    labels: tuple[ScoredLabel, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the row: plain dictionaries, lists, strings and numbers."""
        return {"input": self.input, "labels": [msgspec.to_builtins(scored) for scored in self.labels]}

    def __str__(self) -> str:
        return f"{self.input}: " + (", ".join(f"{one.label} ({one.probability:.1%})" for one in self.labels) or "none")


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``regress``: numbers by name, and the units that the manifest gives them, where it does."""

    input: str
    values: dict[str, float]
    units: dict[str, str] = {}

    def to_dict(self) -> dict[str, Any]:
        """Return the row: plain dictionaries, strings and numbers."""
        return {"input": self.input, "values": dict(self.values)}

    def __str__(self) -> str:
        shown = (f"{name} {value:g} {self.units.get(name, '')}".rstrip() for name, value in self.values.items())
        return f"{self.input}: " + ", ".join(shown)


class Segmentation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``segment``: ``label_map`` is int64 [height, width], class indices at the network's resolution.

    ``shares`` are the classes found, by label, with their share of the places, in falling order.
    """

    input: str
    label_map: NDArray[np.int64]
    shares: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the row, the map as nested lists."""
        return {"input": self.input, "shares": dict(self.shares), "label_map": self.label_map.tolist()}

    def __str__(self) -> str:
        return f"{self.input}: " + ", ".join(f"{label} {share:.1%}" for label, share in self.shares.items())


class TokenSequence(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``tokens``: the token numbers before the end token, and their words where there is a vocabulary."""

    input: str
    tokens: tuple[int, ...]
    words: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row: plain dictionaries, lists, strings and numbers."""
        row: dict[str, Any] = {"input": self.input, "tokens": list(self.tokens)}
        return row if self.words is None else {**row, "words": list(self.words)}

    def __str__(self) -> str:
        return f"{self.input}: {' '.join(map(str, self.tokens if self.words is None else self.words))}"


class Outputs(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``raw``: the network's own outputs as arrays, in the structure that its forward returned."""

    input: str
    outputs: Any

    def to_dict(self) -> dict[str, Any]:
        """Return the row, the arrays as nested lists."""
        return {"input": self.input, "outputs": _to_lists(self.outputs)}

    def __str__(self) -> str:
        return f"{self.input}: {_describe(self.outputs)}"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for an input that has none; the others are not affected.

    Reading a prediction from it raises InputError with its reason, so that it cannot be taken for one.
    """

    input: str
    error: str

    def to_dict(self) -> dict[str, Any]:
        """Return the row: ``input`` and ``error``."""
        return {"input": self.input, "error": self.error}

    def __str__(self) -> str:
        return f"{self.input}: failed: {self.error}"

    @property
    def label(self) -> str:
        """Raise InputError: there is no prediction."""
        raise InputError(self.error)

    index = probability = top = labels = values = label_map = shares = tokens = words = outputs = label


Answer: TypeAlias = Prediction | LabelSet | Estimate | Segmentation | TokenSequence | Outputs
Result: TypeAlias = Answer | Failure


def split(task: Task, outputs: Mapping[str, NDArray[Any]], *, batched: frozenset[str], count: int) -> Sequence[Any]:
    """Return a graph's outputs for a batch of ``count`` inputs as one entry an input, which ``interpret`` takes.

    ``batched`` are the outputs with a batch dimension; raw tasks share the others between all inputs.
    """
    if not isinstance(task, Raw):
        (scores,) = outputs.values()
        return scores  # type: ignore[return-value]  # its rows are the entries
    return [{name: array[row] if name in batched else array for name, array in outputs.items()} for row in range(count)]


def interpret(
    task: Task, scores: Any, labels: Sequence[str], *, name: str, top_k: int, threshold: float | None
) -> Result:
    """Return what one entry of ``split`` means for the input ``name``.

    ``threshold`` stands for the manifest's own where it is given; ``top_k`` bounds the classes that are listed. NaN and
    infinity are no probabilities and no values: an input that comes to them has a Failure.
    """
    if isinstance(task, Classify | Multilabel | Regress) and not is_finite(scores):
        return Failure(input=name, error=non_finite_message(name))
    match task:
        case Classify():
            return classify(scores, labels, name=name, top_k=top_k, threshold=threshold or 0.0)
        case Multilabel():
            return _choose(scores, labels, task.thresholds, name=name, threshold=threshold)
        case Regress():
            return Estimate(
                input=name,
                values={value.name: float(score) for value, score in zip(task.values, scores, strict=True)},
                units={value.name: value.unit for value in task.values if value.unit},
            )
        case Segment():
            return _segment(scores, labels, name=name)
        case Tokens():
            return _spell(scores, labels, task.end_id, name=name)
        case Raw():
            return Outputs(input=name, outputs=_arrange(task.structure, scores))


def is_finite(scores: NDArray[Any]) -> bool:
    """Return whether all scores are finite."""
    return bool(np.isfinite(scores).all())


def non_finite_message(name: str) -> str:
    """Return what to say where the scores of an input are not finite."""
    return (
        f"'{name}': no answer: expected finite scores, got NaN or infinity. The input lies outside what the model, or "
        "the transform before it, was made for, such as a logarithm of a negative number: correct it."
    )


def until_end(tokens: NDArray[np.int64], end_id: int | None) -> NDArray[np.int64]:
    """Return token numbers, int64 [steps], before the first ``end_id``: what follows in a batch is filling."""
    if end_id is None:
        return tokens
    ends = np.flatnonzero(tokens == end_id)
    return tokens[: ends[0]] if len(ends) else tokens


def classify(
    probabilities: NDArray[np.float32], labels: Sequence[str], *, name: str, top_k: int, threshold: float
) -> Prediction:
    """Return the prediction for one row of probabilities, float32 [classes].

    At most ``top_k`` classes are listed; a best probability below ``threshold`` makes the label ``"unknown"``.
    """
    top = tuple(
        ScoredLabel(label=labels[index], index=index, probability=float(probabilities[index]))
        for index in _largest(probabilities, top_k)
    )
    best = top[0]
    known = best.probability >= threshold
    return Prediction(
        input=name,
        label=best.label if known else UNKNOWN,
        index=best.index if known else -1,
        probability=best.probability,
        top=top,
    )


def _largest(scores: NDArray[np.float32], count: int) -> list[int]:
    """Return the indices of the ``count`` largest scores, largest first; of equal ones, the first comes first."""
    candidates = np.arange(len(scores))
    if count < len(scores):
        # Of a thousand classes, sorting the few that can be among them takes a third of the time.
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        candidates = np.flatnonzero(scores >= least)
    order: list[int] = candidates[np.argsort(-scores[candidates], kind="stable")[:count]].tolist()
    return order


def result_to_arrays(result: Result) -> dict[str, NDArray[Any]]:
    """Return what a result says, its words and numbers as arrays by name, so that it can be compared and kept.

    Of classes that is their order, of sets the labels, of values their names, of maps the map itself, of sequences
    tokens and words; probabilities are left out.
    """
    match result:
        case Prediction():
            return {"label": _words([result.label, *(scored.label for scored in result.top)])}
        case LabelSet():
            return {"labels": _words(sorted(scored.label for scored in result.labels))}
        case Estimate():
            names = _words(list(result.values))
            return {"names": names, "values": np.array(list(result.values.values()), dtype=np.float32)}
        case Segmentation():
            return {"label map": np.asarray(result.label_map), "labels": _words(sorted(result.shares))}
        case TokenSequence():
            return {"tokens": np.array(result.tokens, dtype=np.int64), "words": _words(list(result.words or ()))}
    return {"answer": _words([str(result)])}


def _words(words: Sequence[str]) -> NDArray[Any]:
    return np.array(words, dtype=object)


def _spell(tokens: NDArray[np.int64], words: Sequence[str], end_id: int | None, *, name: str) -> TokenSequence:
    numbers = until_end(tokens, end_id).tolist()
    spelt = tuple(words[number] if 0 <= number < len(words) else f"#{number}" for number in numbers)
    return TokenSequence(input=name, tokens=tuple(numbers), words=spelt if words else None)


def _choose(
    probabilities: NDArray[np.float32],
    labels: Sequence[str],
    thresholds: Sequence[float],
    *,
    name: str,
    threshold: float | None,
) -> LabelSet:
    reached = probabilities >= (np.asarray(thresholds, dtype=np.float32) if threshold is None else threshold)
    order = [index for index in np.argsort(-probabilities, kind="stable") if reached[index]]
    return LabelSet(
        input=name,
        labels=tuple(
            ScoredLabel(label=labels[index], index=int(index), probability=float(probabilities[index]))
            for index in order
        ),
    )


def _segment(probabilities: NDArray[np.float32], labels: Sequence[str], *, name: str) -> Segmentation:
    label_map = np.argmax(probabilities, axis=0)
    indices, counts = np.unique(label_map, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return Segmentation(
        input=name,
        label_map=label_map,
        shares={labels[indices[row]]: float(counts[row] / label_map.size) for row in order},
    )


def _arrange(structure: Structure, outputs: Mapping[str, NDArray[Any]]) -> Any:
    match structure:
        case TensorLeaf():
            return outputs[structure.output]
        case Items():
            return [_arrange(item, outputs) for item in structure.items]
        case Entries():
            return {key: _arrange(entry, outputs) for key, entry in structure.entries.items()}


def _to_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_lists(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_to_lists(entry) for entry in value]
    return value.tolist()


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_describe(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return "(" + ", ".join(_describe(entry) for entry in value) + ")"
    return f"{value.dtype} {list(value.shape)}" if value.ndim else f"{value.item():g}"
