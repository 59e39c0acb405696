"""Registry of the tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from exporter.errors import ExportError
from exporter.options.rules import DEFAULT_TASK
from exporter.options.task import TaskOptions

if TYPE_CHECKING:
    from exporter.outputs.interpreter import ReferenceInterpreter
    from exporter.outputs.postprocessing import Postprocessing
    from runtime.manifest import Task

# The class of a task's postprocessing, by module and name. A name is what --task takes, and among the names is each
# kind of task in the manifest; 'binary' is a form of classify, and stands there as such.
TASKS: dict[str, str] = {
    "classify": "exporter.outputs.classify:ClassifyPostprocessing",
    "binary": "exporter.outputs.classify:BinaryPostprocessing",
    "multilabel": "exporter.outputs.multilabel:MultilabelPostprocessing",
    "regress": "exporter.outputs.regress:RegressPostprocessing",
    "segment": "exporter.outputs.segment:SegmentPostprocessing",
    "tokens": "exporter.outputs.tokens:TokensPostprocessing",
    "words": "exporter.outputs.words:WordsPostprocessing",
    "heads": "exporter.outputs.heads:HeadsPostprocessing",
    "raw": "exporter.outputs.raw:RawPostprocessing",
}


def infer_postprocessing(
    values: Sequence[Any],
    options: TaskOptions,
    *,
    labels_file: str,
    name: str,
    batch_axes: Mapping[str, int] = MappingProxyType({}),
) -> "Postprocessing":
    """Return the postprocessing for what the eager network returned, one value per case, each a batch of one.

    ``name`` is the network's in messages, ``labels_file`` the artifact's file of class names; ``batch_axes`` says which
    dimension of its tensors is the batch, where it is not the first. Raises ConversionError where the outputs do not
    fit the task, ExportError where the options do not.
    """
    task = options.task or DEFAULT_TASK
    if task not in TASKS:
        raise ExportError(f"task: expected one of {', '.join(TASKS)}, got '{task}'. Correct --task.")
    kind = _load(TASKS[task])
    if batch_axes and not kind.whole:
        from exporter.conversion.network_io import main_output

        values = [main_output(value, batch_axes) for value in values]
    postprocessing = kind.infer(values, options, labels_file=labels_file, name=name)
    return replace(postprocessing, batch_axes=batch_axes) if batch_axes else postprocessing


def options_of_task(task: "Task", value: Any) -> TaskOptions:
    """Return the options that an artifact's task was exported with, as far as it tells.

    ``value`` is what its eager network returned for one case.
    """
    return _load(TASKS[task.kind]).options_of(task, value)


def open_reference(task: "Task", labels: Sequence[str]) -> "ReferenceInterpreter":
    """Return what gives eager's outputs of ``task`` their meaning; ``labels`` are as the user gave them."""
    return _load(TASKS[task.kind]).interpreter(task, labels)


@cache
def _load(reference: str) -> "type[Postprocessing]":
    module, _, name = reference.partition(":")
    postprocessing: type[Postprocessing] = getattr(import_module(module), name)
    return postprocessing
