"""The eager model on labelled data, for figures beside the artifact's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporter.architectures.rebuilding import rebuild
from exporter.checkpoint import read_checkpoint
from exporter.endings import Wanted, read_ending
from exporter.errors import ExportError
from exporter.forward import call
from exporter.fronts.choosing import open_front
from exporter.fronts.protocol import Case
from exporter.fronts.rows import cell_of
from exporter.recipe import Recipe
from runtime.errors import InputError
from runtime.labelled import Labelled, Scores
from runtime.manifest import Classify, ImageInput, Manifest, Multilabel, TabularInput, TensorInput
from runtime.model import Model


def score_eager(
    model: Model, labelled: Iterator[Labelled | InputError], checkpoint: Path, *, preprocess: str | None, trust: bool
) -> Scores:
    """Return the eager model's scores for labelled data, behind the user's own preprocessing.

    The architecture is the one that the manifest names. Raises ExportError where the checkpoint is another one, or the
    kind of input or task has no such comparison.
    """
    manifest = model.manifest
    read = read_checkpoint(checkpoint, weights=manifest.source.checkpoint_entry or None, trust=trust)
    if read.sha256 != manifest.source.checkpoint_sha256:
        raise ExportError(
            f"'{checkpoint}': is not what '{manifest.name}' was exported from: expected SHA-256 "
            f"{manifest.source.checkpoint_sha256}, got {read.sha256}. Give the checkpoint of the export."
        )
    if manifest.calibration is not None or not isinstance(manifest.task, Classify | Multilabel):
        raise ExportError(
            f"'{manifest.name}': cannot be compared with its checkpoint: expected a classifier as exported, got "
            f"{'a calibrated one' if manifest.calibration else manifest.task.kind}. Leave out --checkpoint."
        )
    architecture: Any = read.module if read.module is not None else manifest.source.architecture
    rebuilt = rebuild(architecture, manifest.source.arguments, read)
    inputs = tuple(
        f"{spec.name}={spec.dtype}[{','.join(map(str, spec.shape))}]"
        for spec in manifest.inputs
        if isinstance(spec, TensorInput)
    )
    exif = any(isinstance(spec, ImageInput) and spec.exif for spec in manifest.inputs)
    recipe = Recipe(checkpoint=checkpoint, preprocess=preprocess, trust=trust, inputs=inputs, exif=exif)
    front = open_front(recipe, rebuilt)
    names, values, truth, failures = [], [], [], {}
    for one in labelled:
        if isinstance(one, InputError):
            failures[str(one).partition(": ")[0]] = str(one)
            continue
        try:
            model.decode(one.source, subject=f"'{one.name}'")  # the same inputs as the artifact's, and no others
        except InputError as error:
            failures[one.name] = str(error)
            continue
        prepared = front.prepare(Case(name=one.name, data=_to_bytes(one.source, manifest)))
        values.append(call(rebuilt.network, prepared.tensors))
        names.append(one.name)
        truth.append(one.truth)
    # What was decided at the export follows from the outputs again: the activation, and one logit for two classes.
    task = manifest.task.kind
    main = values[0]
    binary = task == "classify" and isinstance(main, torch.Tensor) and main.numel() == 1
    wanted = Wanted(task="binary" if binary else "multilabel" if task == "multilabel" else "classify")
    ending = read_ending(values, wanted, labels_file="", name=manifest.source.architecture)
    scores = [ending.expect(value)[manifest.outputs[0].name][0] for value in values]
    return Scores(names=tuple(names), scores=np.stack(scores), truth=np.array(truth), failures=failures)


def _to_bytes(source: Any, manifest: Manifest) -> bytes:
    """Return an input in its encoded form, as a case has it."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, Path):
        return source.read_bytes()
    (spec,) = manifest.inputs
    assert isinstance(spec, TabularInput)
    row = {column.name: cell_of(column, source[column.name], manifest.name) for column in spec.columns}
    return json.dumps(row).encode()
