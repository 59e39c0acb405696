"""The eager model on labeled data, for figures beside the artifact's."""

from collections.abc import Iterator
from typing import Any

from exporter.conversion.network_io import call
from exporter.eager.source import open_eager_network
from exporter.inputs.registry import open_adapter, to_bytes
from exporter.options.export import ExportOptions
from exporter.parity.cases import Case
from exporter.recipe_from_artifact import options_from_artifact, postprocessing_from_artifact
from runtime.artifact.open import Artifact
from runtime.errors import InputError
from runtime.evaluation.data import LabeledData, fail
from runtime.evaluation.segmentation import compare_maps
from runtime.model import Model
from runtime.outputs.metrics import Maps, Scores, stack
from runtime.outputs.registry import open_interpreter


def score_eager(
    artifact: Artifact, model: Model, labeled: Iterator[LabeledData | InputError], options: ExportOptions
) -> Scores | Maps:
    """Return the eager model's scores for labeled data, behind the user's own preprocessing.

    Those of a calibrated artifact are calibrated in the same way. Raises CheckpointError where the checkpoint is
    another one.
    """
    manifest = model.manifest
    rebuilt = open_eager_network(artifact, options)
    adapter = open_adapter(options_from_artifact(artifact, options), rebuilt)
    network = adapter.arrange(rebuilt.network)

    def values() -> Iterator[tuple[LabeledData, Any] | tuple[str, InputError]]:
        for one in labeled:
            if isinstance(one, InputError):
                yield fail(one)
                continue
            try:
                model.decode(one.source, subject=f"'{one.name}'")  # the same inputs as the artifact's, and no others
            except InputError as error:
                yield one.name, error
                continue
            prepared = adapter.prepare(Case(name=one.name, data=to_bytes(one.source, manifest)))
            yield one, call(network, prepared.tensors)

    if open_interpreter(manifest.task).gives_maps:
        return compare_maps(model, _with_postprocessing(values(), artifact), keep=True)
    names, found, truth, failures = [], [], [], {}
    for one, value in values():
        if isinstance(one, str):
            failures[one] = str(value)
            continue
        names.append(one.name)
        found.append(value)
        truth.append(one.truth)
    postprocessing = postprocessing_from_artifact(artifact, found)
    interpreter = open_interpreter(manifest.task)
    # In the task's own form: one array, or one for each head.
    scores = [
        interpreter.split(postprocessing.expect(value), batched=manifest.batched_outputs, count=1)[0] for value in found
    ]
    return Scores(names=tuple(names), scores=stack(scores), truth=stack(truth), failures=failures)


def _with_postprocessing(
    values: Iterator[tuple[LabeledData, Any] | tuple[str, InputError]], artifact: Artifact
) -> Iterator[tuple[LabeledData, Any] | tuple[str, InputError]]:
    """Give the label scores of what a segmentation network returned, one input after the other."""
    for one, value in values:
        if isinstance(one, str):
            yield one, value
        else:
            yield (
                one,
                postprocessing_from_artifact(artifact, [value]).expect(value)[artifact.manifest.outputs[0].name][0],
            )
