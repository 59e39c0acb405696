"""Metrics on labeled data: types and formulas that several tasks share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError, listed

_BINS = 15


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The model's scores for labeled data, one row per input, and the truth.

    ``scores`` is float32 [inputs, ...]; ``truth`` is int64 [inputs] of class indices, bool [inputs, classes] of classes
    that hold, or float64 [inputs, values]; of several heads, both are such arrays by head. ``failures`` are the inputs
    that could not be used, with the reason.
    """

    names: tuple[str, ...]
    scores: Any
    truth: Any
    failures: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Maps:
    """The network's label maps against the true ones, over all inputs.

    ``confusion`` counts pixels by true class (rows) and predicted class, int64 [classes, classes]; ``maps`` are the
    network's own, uint8 or uint16 [height, width], where they were to be kept. ``failures`` as in ``Scores``.
    """

    names: tuple[str, ...]
    confusion: NDArray[np.int64]
    maps: tuple[NDArray[Any], ...]
    failures: Mapping[str, str]


class ClassFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One class: how often it is true, and how often it is found; None where there is nothing to divide by.

    ``count`` is of inputs, of a segmentation of pixels; its ``iou`` is the share of the pixels that are true or
    predicted which are both.
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
    """All metrics; those that a task does not have are None or empty.

    ``accuracy`` of a multilabel is the share of inputs with exactly the true labels, of a segmentation the share of
    pixels; ``mean_iou`` is the mean over the classes that are true or predicted anywhere. ``confusion`` counts inputs,
    or pixels, by true class (rows) and predicted class. ``failures`` are inputs that could not be used, which count
    nowhere. ``heads`` are the metrics of each head, where there are several. ``eager`` are the eager model's metrics,
    where they were asked for, and ``differences`` how far the two are apart.
    """

    artifact: str
    task: str
    inputs: int
    failures: dict[str, str]
    accuracy: float | None = None
    top5: float | None = None
    calibration_error: float | None = None
    mean_iou: float | None = None
    classes: tuple[ClassFigures, ...] = ()
    values: tuple[ValueFigures, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    heads: dict[str, "Evaluation"] = {}
    eager: "Evaluation | None" = None
    differences: dict[str, float | int] = {}


def stack(rows: Sequence[Any]) -> Any:
    """Return the scores, or the truth, of all inputs as one array; of several heads, as one for each."""
    if isinstance(rows[0], Mapping):
        return {head: np.array([row[head] for row in rows]) for head in rows[0]}
    return np.array(rows)


def confusion_matrix(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Return how many inputs, or pixels, of each true class (rows) were given each class: int64 [classes, classes]."""
    pairs = truth.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def reliability(confidence: NDArray[Any], correct: NDArray[Any]) -> list[tuple[float, float, int]]:
    """Return (mean confidence, share correct, count) for each of fifteen bins of confidence that is not empty."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return [
        (float(confidence[bins == index].mean()), float(correct[bins == index].mean()), int((bins == index).sum()))
        for index in range(_BINS)
        if (bins == index).any()
    ]


def calibration_error(confidence: NDArray[Any], correct: NDArray[Any]) -> float:
    """Return the expected calibration error: how far confidence is from the share correct, over bins by their size.

    Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    return error_of_bins(reliability(confidence, correct))


def error_of_bins(bins: Sequence[tuple[float, float, int]]) -> float:
    """Return the expected calibration error of the bins that ``reliability`` returns."""
    return sum(abs(mean - share) * count for mean, share, count in bins) / sum(count for _, _, count in bins)


def class_figures(label: str, hits: Any, predicted: Any, true: Any) -> ClassFigures:
    """Return the metrics of one class: how often it is predicted rightly, predicted, and true."""
    precision = float(hits / predicted) if predicted else None
    recall = float(hits / true) if true else None
    f1 = float(2 * hits / (predicted + true)) if predicted + true else None
    return ClassFigures(label=label, count=int(true), precision=precision, recall=recall, f1=f1)


def index_of_label(label: Any, labels: Sequence[str], *, name: str) -> int:
    """Return the index of a class that the truth of the input ``name`` gives by name or number.

    Raises InputError for one that is neither.
    """
    text = str(label).strip()
    if text in labels:
        return labels.index(text)
    if text.isdigit() and int(text) < len(labels):
        return int(text)
    known = listed([f"'{known}'" for known in labels])
    raise InputError(f"'{name}': unknown label: expected one of {known}, or its number, got '{text}'. Correct it.")
