"""Metrics of a model on labeled data, overall and per class."""

from collections.abc import Iterator

from runtime.errors import InputError
from runtime.evaluation.data import LabeledData, score_labeled
from runtime.evaluation.segmentation import score_maps
from runtime.model import Model
from runtime.outputs.metrics import Evaluation, Maps, Scores
from runtime.outputs.registry import evaluated_tasks, open_interpreter


def score(model: Model, labeled: Iterator[LabeledData | InputError], *, keep: bool = False) -> Scores | Maps:
    """Return what the model makes of labeled data, for ``evaluate``; ``keep`` keeps the maps of a segmentation.

    Raises InputError when no input can be used.
    """
    _check_evaluated(model, model.manifest.name)
    if open_interpreter(model.manifest.task).gives_maps:
        return score_maps(model, labeled, keep=keep)
    return score_labeled(model, labeled)


def evaluate(model: Model, scored: Scores | Maps, *, name: str) -> Evaluation:
    """Return the metrics of a model's scores. Raises InputError for a task that has no truth to compare with."""
    _check_evaluated(model, name)
    return open_interpreter(model.manifest.task, model.labels).evaluate(scored, name=name)


def _check_evaluated(model: Model, name: str) -> None:
    if not open_interpreter(model.manifest.task).is_evaluated:
        *tasks, last = evaluated_tasks()
        raise InputError(
            f"'{name}': cannot be evaluated: expected a task of {', '.join(tasks)} or {last}, got "
            f"{model.manifest.task.kind}. Compare its outputs yourself, with predict()."
        )
