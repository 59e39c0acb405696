"""How good is the model on labelled data: figures over all inputs, and class by class."""

from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.evaluation.data import Scores
from runtime.evaluation.segmentation import Maps
from runtime.manifest import Classify, Multilabel, Regress
from runtime.model import Model

_TOP = 5
_BINS = 15


class ClassFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One class: how often it is true, and how often it is found; None where there is nothing to divide by.

    ``count`` is of inputs, of a segmentation of places; its ``iou`` is the share of the places that are true or given
    which are both.
    """

    label: str
    count: int
    precision: float | None
    recall: float | None
    f1: float | None
    iou: float | None = None


class ValueFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a regression: mean absolute error, root of the mean squared error, and the share explained."""

    name: str
    unit: str
    mean_absolute_error: float
    root_mean_squared_error: float
    r2: float | None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All figures; those that a task has not are None or empty.

    ``accuracy`` of a multilabel is the share of inputs with exactly the true labels, of a segmentation the share of
    places; ``mean_iou`` is the mean over the classes that are true or given anywhere. ``confusion`` counts inputs, or
    places, by true class (rows) and predicted class. ``failures`` are inputs that could not be used, which count
    nowhere. ``eager`` are the eager model's figures, where they were asked for, and ``differences`` how far the two are
    apart.
    """

    artifact: str
    task: Literal["classify", "multilabel", "regress", "segment"]
    inputs: int
    failures: dict[str, str]
    accuracy: float | None = None
    top5: float | None = None
    calibration_error: float | None = None
    mean_iou: float | None = None
    classes: tuple[ClassFigures, ...] = ()
    values: tuple[ValueFigures, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    eager: "Evaluation | None" = None
    differences: dict[str, float | int] = {}


def evaluate(model: Model, found: Scores | Maps, *, name: str) -> Evaluation:
    """Return the figures of a model's scores; raises InputError for a task that has no truth to compare with."""
    task = model.manifest.task
    if isinstance(found, Maps):
        return _places(model, found, name)
    match task:
        case Classify():
            return _classes(model, found, name)
        case Multilabel():
            return _sets(model, found, task, name)
        case Regress():
            return _values(found, task, name)
        case _:
            raise InputError(
                f"'{name}': cannot be evaluated: expected a task of classify, multilabel, regress or segment, got "
                f"{task.kind}. "
                "Compare its outputs yourself, with predict()."
            )


def confusion_matrix(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Return how many inputs of each true class (rows) were given each class: int64 [classes, classes]."""
    matrix: NDArray[np.int64] = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (truth, predicted), 1)
    return matrix


def reliability(confidence: NDArray[Any], correct: NDArray[Any]) -> list[tuple[float, float, int]]:
    """Return (mean confidence, share correct, count) for each of fifteen bins of confidence that is not empty."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return [
        (float(confidence[bins == one].mean()), float(correct[bins == one].mean()), int((bins == one).sum()))
        for one in range(_BINS)
        if (bins == one).any()
    ]


def calibration_error(confidence: NDArray[Any], correct: NDArray[Any]) -> float:
    """Return the expected calibration error: how far confidence is from the share correct, over bins by their size.

    Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    return sum(abs(mean - share) * count for mean, share, count in reliability(confidence, correct)) / len(confidence)


def confidences(task: Classify | Multilabel, scores: NDArray[Any], truth: NDArray[Any]) -> tuple[Any, Any]:
    """Return how sure the model is of each thing that it says, and whether it is so: float [n], bool [n].

    Of a classifier that is the best class of an input; of a multilabel every class of every input.
    """
    if isinstance(task, Multilabel):
        return scores.ravel(), truth.ravel().astype(bool)
    best = scores.argmax(axis=1)
    return scores[np.arange(len(scores)), best], best == truth


def _classes(model: Model, found: Scores, name: str) -> Evaluation:
    scores, truth = found.scores, found.truth
    predicted = scores.argmax(axis=1)
    count = min(_TOP, scores.shape[1])
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    confusion = confusion_matrix(truth, predicted, scores.shape[1])
    assert isinstance(model.manifest.task, Classify)
    return Evaluation(
        artifact=name,
        task="classify",
        inputs=len(scores),
        failures=dict(found.failures),
        accuracy=float((predicted == truth).mean()),
        top5=float((best == truth[:, np.newaxis]).any(axis=1).mean()),
        calibration_error=calibration_error(*confidences(model.manifest.task, scores, truth)),
        classes=tuple(
            _figures(label, confusion[row, row], confusion[:, row].sum(), confusion[row].sum())
            for row, label in enumerate(model.labels)
        ),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )


def _sets(model: Model, found: Scores, task: Multilabel, name: str) -> Evaluation:
    truth = found.truth.astype(bool)
    predicted = found.scores >= np.asarray(task.thresholds, dtype=np.float32)
    return Evaluation(
        artifact=name,
        task="multilabel",
        inputs=len(truth),
        failures=dict(found.failures),
        accuracy=float((predicted == truth).all(axis=1).mean()),
        calibration_error=calibration_error(*confidences(task, found.scores, truth)),
        classes=tuple(
            _figures(label, (truth & predicted)[:, row].sum(), predicted[:, row].sum(), truth[:, row].sum())
            for row, label in enumerate(model.labels)
        ),
    )


def _places(model: Model, found: Maps, name: str) -> Evaluation:
    confusion = found.confusion
    true, given = confusion.sum(axis=1), confusion.sum(axis=0)
    hits = confusion.diagonal()
    either = true + given - hits
    shares = [float(hits[row] / either[row]) if either[row] else None for row in range(len(confusion))]
    there = [share for share in shares if share is not None]
    return Evaluation(
        artifact=name,
        task="segment",
        inputs=len(found.names),
        failures=dict(found.failures),
        accuracy=float(hits.sum() / true.sum()) if true.sum() else None,
        mean_iou=float(np.mean(there)) if there else None,
        classes=tuple(
            msgspec.structs.replace(_figures(label, hits[row], given[row], true[row]), iou=shares[row])
            for row, label in enumerate(model.labels)
        ),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )


def _values(found: Scores, task: Regress, name: str) -> Evaluation:
    error = found.scores.astype(np.float64) - found.truth
    variance = found.truth.var(axis=0)
    return Evaluation(
        artifact=name,
        task="regress",
        inputs=len(error),
        failures=dict(found.failures),
        values=tuple(
            ValueFigures(
                name=value.name,
                unit=value.unit,
                mean_absolute_error=float(np.abs(error[:, row]).mean()),
                root_mean_squared_error=float(np.sqrt((error[:, row] ** 2).mean())),
                r2=float(1 - (error[:, row] ** 2).mean() / variance[row]) if variance[row] else None,
            )
            for row, value in enumerate(task.values)
        ),
    )


def _figures(label: str, hits: Any, predicted: Any, true: Any) -> ClassFigures:
    precision = float(hits / predicted) if predicted else None
    recall = float(hits / true) if true else None
    f1 = float(2 * hits / (predicted + true)) if predicted + true else None
    return ClassFigures(label=label, count=int(true), precision=precision, recall=recall, f1=f1)
