"""How an artifact was exported, as far as its manifest and files tell; the user says the rest again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from exporter.conversion.network_io import main_output
from exporter.inputs.registry import INPUT_KINDS
from exporter.outputs.postprocessing import Postprocessing, infer_postprocessing
from exporter.recipe import ExportOptions, TaskOptions
from runtime.artifact.open import Artifact
from runtime.manifest import (
    Classify,
    Multilabel,
    Regress,
    Segment,
    Tokens,
)


def options_from_artifact(artifact: Artifact, given: ExportOptions) -> ExportOptions:
    """Return ``given`` with what it leaves open filled in from the artifact.

    Raises ExportError where rows have no transform: the artifact has it as a graph alone, which cannot be its own
    reference.
    """
    options = given
    for spec in artifact.manifest.inputs:
        options = INPUT_KINDS[type(spec)].complete_options(options, spec, artifact)
    # Each described input adds its description; the user's own stand for all of them.
    return replace(options, inputs=given.inputs or options.inputs)


def postprocessing_from_artifact(artifact: Artifact, values: Sequence[Any]) -> Postprocessing:
    """Return what the export put behind the network, for what the eager one returned, one value a case."""
    manifest = artifact.manifest
    return infer_postprocessing(
        values, _task_options_from_artifact(artifact, values[0]), labels_file="", name=manifest.source.architecture
    )


def _task_options_from_artifact(artifact: Artifact, value: Any) -> TaskOptions:
    task, main = artifact.manifest.task, main_output(value)
    match task:
        case Classify():
            return TaskOptions(task="binary" if main is not None and main.numel() == 1 else "classify")
        case Multilabel():
            return TaskOptions(task="multilabel", thresholds=task.thresholds)
        case Segment():
            return TaskOptions(task="segment", colors=task.colors)
        case Tokens():
            return TaskOptions(task="tokens", end_id=task.end_id)
        case Regress():
            return TaskOptions(task="regress", values=task.values, target_transform=task.inverse_transform)
    return TaskOptions(task="raw")
