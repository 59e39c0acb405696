"""What scores decide: labels, sets of labels, maps; which of them flipped, and by how much eager was sure of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.parity.cases import Arrays
from runtime.manifest import Classify, Manifest, Multilabel, Raw, Regress, Segment, Task, Tokens
from runtime.results import until_end

TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Two answers to one case: the share of equal decisions, of equal top-k sets, and the worst flip.

    ``margin`` is eager's own, at the flipped place where it was surest; None where nothing flipped.
    """

    agreement: float
    top_k: float | None
    margin: float | None = None
    expected: str = ""
    got: str = ""


def decide(actual: Arrays, expected: Arrays, manifest: Manifest, labels: Sequence[str]) -> Decision | None:
    """Return how the decisions of two sets of outputs compare, each a batch of one; None for tasks without any."""
    task = manifest.task
    name = manifest.outputs[0].name
    if not isinstance(task, Classify | Multilabel | Segment):
        return None
    one, other = actual[name], expected[name]
    if isinstance(task, Multilabel):
        thresholds = np.asarray(task.thresholds, dtype=np.float32)
        here, there = one[0] >= thresholds, other[0] >= thresholds
        margins = np.abs(other[0].astype(np.float64) - thresholds)
        words = [("above", "below") if is_there else ("below", "above") for is_there in there]
        said = [tuple(f"{label} {side}" for side in sides) for label, sides in zip(labels, words, strict=True)]
        return _decision(here == there, margins, lambda place: said[place][0], lambda place: said[place][1], None)
    mine = one if one.ndim == other.ndim - 1 else np.argmax(one, axis=1)
    eager = np.argmax(other, axis=1)
    top_k = None
    if isinstance(task, Classify) and other.shape[1] > 1:
        count = min(TOP_K, other.shape[1] - 1)
        top_k = float(set(np.argsort(-one[0], kind="stable")[:count]) == set(np.argsort(-other[0])[:count]))
    return _decision(
        (mine == eager).ravel(),
        _margins(other).ravel(),
        lambda place: labels[int(eager.ravel()[place])],
        lambda place: labels[int(mine.ravel()[place])],
        top_k,
    )


def expected_result(outputs: Arrays, task: Task, labels: Sequence[str]) -> Arrays:
    """Return what eager's outputs, a batch of one, mean: the names by the order in which the user gave them.

    It is in the form of ``runtime.results.say``; raw outputs say nothing.
    """
    if isinstance(task, Raw):
        return {}
    (scores,) = (array[0] for array in outputs.values())
    match task:
        case Classify():
            order = [int(place) for place in np.argsort(-scores, kind="stable")[:TOP_K]]
            return {"label": _words([labels[order[0]], *(labels[place] for place in order)])}
        case Multilabel():
            reached = np.flatnonzero(scores >= np.asarray(task.thresholds, dtype=np.float32))
            return {"labels": _words(sorted(labels[int(place)] for place in reached))}
        case Regress():
            return {"names": _words([value.name for value in task.values]), "values": scores.astype(np.float32)}
        case Segment():
            chosen = np.argmax(scores, axis=0)
            return {"label map": chosen, "labels": _words(sorted(labels[int(place)] for place in np.unique(chosen)))}
        case Tokens():
            tokens = until_end(scores, task.end_id)
            words = [labels[token] if 0 <= token < len(labels) else f"#{token}" for token in tokens] if labels else []
            return {"tokens": tokens.astype(np.int64), "words": _words(words)}


def _decision(same: NDArray[np.bool_], margins: NDArray[Any], expected: Any, got: Any, top_k: float | None) -> Decision:
    agreement = float(same.mean()) if same.size else 1.0
    if same.all():
        return Decision(agreement=agreement, top_k=top_k)
    place = int(np.argmax(np.where(same, -1.0, margins)))
    return Decision(
        agreement=agreement, top_k=top_k, margin=float(margins[place]), expected=expected(place), got=got(place)
    )


def _margins(scores: NDArray[Any]) -> NDArray[Any]:
    """Return how far the best probability is above the second, place by place: the classes are dimension 1."""
    if scores.shape[1] == 1:
        return np.ones((len(scores), *scores.shape[2:]), dtype=np.float32)
    best = np.partition(scores, -2, axis=1)[:, -2:]
    margins: NDArray[Any] = best[:, 1] - best[:, 0]
    return margins


def _words(words: Sequence[str]) -> NDArray[Any]:
    return np.array(words, dtype=object)
