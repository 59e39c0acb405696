"""How an artifact was exported, as far as its manifest and files tell; the user says the rest again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from exporter.inputs.registry import INPUT_KINDS
from exporter.outputs.postprocessing import Postprocessing
from exporter.outputs.registry import infer_postprocessing, options_of_task
from exporter.recipe import ExportOptions
from runtime.artifact.open import Artifact


def options_from_artifact(artifact: Artifact, given: ExportOptions) -> ExportOptions:
    """Return ``given`` with what it leaves open filled in from the artifact.

    Raises ExportError for an option that is not for the artifact's inputs or its task, and where rows have no
    transform: the artifact has it as a graph alone, which cannot be its own reference.
    """
    given.check(kinds=[spec.kind for spec in artifact.manifest.inputs], task=artifact.manifest.task.kind)
    options = given
    for spec in artifact.manifest.inputs:
        options = INPUT_KINDS[type(spec)].complete_options(options, spec, artifact)
    # Each described input adds its description; the user's own stand for all of them.
    return replace(options, inputs=given.inputs or options.inputs)


def postprocessing_from_artifact(
    artifact: Artifact, values: Sequence[Any], *, batch_axes: Mapping[str, int] = MappingProxyType({})
) -> Postprocessing:
    """Return what the export put behind the network, for what the eager one returned, one value per case.

    ``batch_axes`` says which dimension of its tensors is the batch, where it is not the first.
    """
    manifest = artifact.manifest
    options = options_of_task(manifest.task, values[0])
    return infer_postprocessing(
        values, options, labels_file="", name=manifest.source.architecture, batch_axes=batch_axes
    )
