"""The eager model on labelled data, for figures beside the artifact's."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from exporter.architectures.rebuild import rebuild
from exporter.checkpoint import read_checkpoint
from exporter.conversion.network_io import call
from exporter.errors import ExportError
from exporter.inputs.registry import open_adapter
from exporter.inputs.tabular.adapter import cell_of
from exporter.parity.cases import Case
from exporter.recipe import Recipe
from exporter.recipe_from_artifact import postprocessing_from_artifact, recipe_from_artifact
from runtime.artifact.open import Artifact, open_artifact
from runtime.errors import InputError
from runtime.evaluation.data import LabeledData, fail
from runtime.evaluation.segmentation import compare_maps
from runtime.manifest import Manifest, TabularInput, TextInput, TokensInput
from runtime.model import Model
from runtime.outputs.metrics import Maps, Scores
from runtime.outputs.registry import open_interpreter


def score_eager(
    artifact: Path,
    model: Model,
    labelled: Iterator[LabeledData | InputError],
    checkpoint: Path,
    *,
    arch: str | None,
    preprocess: str | None,
    trust: bool,
) -> Scores | Maps:
    """Return the eager model's scores for labelled data, behind the user's own preprocessing.

    The architecture is the one that the manifest names, unless ``arch`` says where it is now. Raises
    ExportError where the checkpoint is another one, or the artifact's probabilities are not the network's any more.
    """
    files, manifest = open_artifact(artifact), model.manifest
    read = read_checkpoint(checkpoint, weights=manifest.source.checkpoint_entry or None, trust=trust)
    if read.sha256 != manifest.source.checkpoint_sha256:
        raise ExportError(
            f"'{checkpoint}': is not what '{manifest.name}' was exported from: expected SHA-256 "
            f"{manifest.source.checkpoint_sha256}, got {read.sha256}. Give the checkpoint of the export."
        )
    if manifest.calibration is not None:
        raise ExportError(
            f"'{manifest.name}': cannot be compared with its checkpoint: expected an artifact as exported, got a "
            "calibrated one. Leave out --checkpoint."
        )
    given = Recipe(checkpoint=checkpoint, preprocess=preprocess, trust=trust)
    named: Any = read.module if read.module is not None else arch or manifest.source.architecture
    rebuilt = rebuild(named, manifest.source.arguments, read)
    adapter = open_adapter(recipe_from_artifact(files, given), rebuilt)

    def values() -> Iterator[tuple[LabeledData, Any] | tuple[str, InputError]]:
        for one in labelled:
            if isinstance(one, InputError):
                yield fail(one)
                continue
            try:
                model.decode(one.source, subject=f"'{one.name}'")  # the same inputs as the artifact's, and no others
            except InputError as error:
                yield one.name, error
                continue
            prepared = adapter.prepare(Case(name=one.name, data=_to_bytes(one.source, manifest)))
            yield one, call(rebuilt.network, prepared.tensors)

    output = manifest.outputs[0].name
    if open_interpreter(manifest.task).gives_maps:
        return compare_maps(model, _with_ending(values(), files), keep=True)
    names, found, truth, failures = [], [], [], {}
    for one, value in values():
        if isinstance(one, str):
            failures[one] = str(value)
            continue
        names.append(one.name)
        found.append(value)
        truth.append(one.truth)
    postprocessing = postprocessing_from_artifact(files, found)
    scores = [postprocessing.expect(value)[output][0] for value in found]
    return Scores(names=tuple(names), scores=np.stack(scores), truth=np.array(truth), failures=failures)


def _with_ending(
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


def _to_bytes(source: Any, manifest: Manifest) -> bytes:
    """Return an input in its encoded form, as a case has it."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, Path):
        return source.read_bytes()
    spec = manifest.inputs[0]
    match spec:
        case TabularInput():
            row = {column.name: cell_of(column, source[column.name], manifest.name) for column in spec.columns}
            return json.dumps(row).encode()
        case TextInput():
            return json.dumps(list(source)).encode() if spec.pairs else str(source).encode()
        case TokensInput():
            return json.dumps([int(token) for token in source]).encode()
        case _:
            stream = io.BytesIO()
            np.save(stream, np.asarray(source, dtype=spec.dtype), allow_pickle=False)
            return stream.getvalue()
