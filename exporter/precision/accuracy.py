"""Accuracy of a variant and of fp32 on labeled data that was not calibrated with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from exporter.precision.data import PreparedSource, prepare_source
from runtime.errors import InputError
from runtime.evaluation.data import LabeledData, read_labeled, score_labeled
from runtime.manifest import FULL_PRECISION, Accuracy
from runtime.model import Model
from runtime.outputs.metrics import Evaluation
from runtime.outputs.registry import open_interpreter


def read_uncalibrated(
    model: Model, data: Path, *, column: str, calibrated: Sequence[PreparedSource]
) -> list[LabeledData | InputError]:
    """Return the labeled inputs that were not calibrated with, and why others cannot be used."""
    hashes = {source.sha256 for source in calibrated}
    labeled: list[LabeledData | InputError] = []
    for one in read_labeled(model, data, column=column):
        try:
            if isinstance(one, InputError) or prepare_source(model, one.name, one.source).sha256 not in hashes:
                labeled.append(one)
        except InputError as error:
            labeled.append(error)
    return labeled


def measure_accuracy(
    full: Model, own: Model, labeled: Sequence[LabeledData | InputError]
) -> tuple[Accuracy | None, str]:
    """Return the accuracies, and a sentence where the labels look as if they were those of other classes."""
    if not labeled:
        return None, ""
    interpreter = open_interpreter(full.manifest.task, full.labels)
    full_figures, own_figures = (
        interpreter.evaluate(score_labeled(model, iter(labeled)), name=full.manifest.name) for model in (full, own)
    )
    accuracy = Accuracy(
        inputs=full_figures.inputs, fp32=full_figures.accuracy or 0.0, variant=own_figures.accuracy or 0.0
    )
    return accuracy, describe_permuted(full_figures, full.labels)


def describe_permuted(figures: Evaluation, labels: Sequence[str]) -> str:
    """Return a sentence where fp32 gives most classes another label than the data; empty where it does not."""
    confusion = np.array(figures.confusion)
    if confusion.size == 0:
        return ""
    classes = np.flatnonzero(confusion.sum(axis=1))
    mostly = confusion.argmax(axis=1)
    others = [int(index) for index in classes if confusion[index, mostly[index]] > confusion[index, index]]
    if len(classes) < 2 or 2 * len(others) <= len(classes):
        return ""
    first = others[0]
    return (
        f"the labels of the data look like those of other classes: {FULL_PRECISION} itself gives another label to most "
        f"inputs of {len(others)} of {len(classes)} classes, such as '{labels[mostly[first]]}' to '{labels[first]}'. "
        "Check their names and their order; these accuracies say nothing."
    )
