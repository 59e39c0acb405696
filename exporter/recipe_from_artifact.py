"""How an artifact was exported, as far as its manifest and files tell; the user says the rest again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from exporter.conversion.network_io import main_output
from exporter.errors import ExportError
from exporter.outputs.postprocessing import Ending, Wanted, read_ending
from exporter.recipe import Recipe
from runtime.artifact.open import Artifact
from runtime.manifest import (
    Classify,
    ImageInput,
    Multilabel,
    Regress,
    Segment,
    TabularInput,
    TensorInput,
    TextInput,
    Tokens,
    TokensInput,
)


def recall_recipe(artifact: Artifact, given: Recipe) -> Recipe:
    """Return ``given`` with what it leaves open filled in from the artifact.

    Raises ExportError where rows have no transform: the artifact has it as a graph alone, which cannot be its own
    reference.
    """
    recipe = given
    inputs = []
    for spec in artifact.manifest.inputs:
        match spec:
            case TensorInput():
                inputs.append(f"{spec.name}={spec.dtype}[{','.join(map(str, spec.shape))}]")
            case TokensInput():
                inputs.append(f"{spec.name}=tokens[batch,length]")
                inputs += [
                    f"{name}={kind}[batch{'' if kind == 'lengths' else ',length'}]"
                    for name, kind in spec.beside.items()
                ]
                words = artifact.file(spec.vocabulary) if spec.vocabulary else None
                recipe = replace(
                    recipe,
                    vocabulary=given.vocabulary or words,
                    pad_id=spec.pad_id if given.pad_id is None else given.pad_id,
                    max_length=given.max_length or spec.max_length,
                )
            case TextInput():
                recipe = replace(
                    recipe,
                    tokenizer=given.tokenizer or artifact.file(spec.tokenizer),
                    carried=spec if given.tokenizer is None else None,
                    pair=spec.pair,
                    max_length=given.max_length or spec.max_length,
                )
            case ImageInput():
                mode = f"{spec.dtype}[{spec.channels}]" if spec.mode == "bands" else spec.mode
                recipe = replace(recipe, exif=given.exif or spec.exif, image_mode=given.image_mode or mode)
            case TabularInput():
                if given.preprocess is None:
                    raise ExportError(
                        f"'{artifact.path}': takes rows: expected the transform that was fitted on them, which the "
                        "artifact has as a graph alone, got none. Give it with --preprocess."
                    )
                columns = given.columns or tuple(column.name for column in spec.columns)
                recipe = replace(recipe, columns=columns)
    return replace(recipe, inputs=given.inputs or tuple(inputs))


def recall_ending(artifact: Artifact, values: Sequence[Any]) -> Ending:
    """Return what the export put behind the network, for what the eager one returned, one value a case."""
    manifest = artifact.manifest
    return read_ending(values, _recall_wanted(artifact, values[0]), labels_file="", name=manifest.source.architecture)


def _recall_wanted(artifact: Artifact, value: Any) -> Wanted:
    task, main = artifact.manifest.task, main_output(value)
    match task:
        case Classify():
            return Wanted(task="binary" if main is not None and main.numel() == 1 else "classify")
        case Multilabel():
            return Wanted(task="multilabel", thresholds=task.thresholds)
        case Segment():
            return Wanted(task="segment", colours=task.colours)
        case Tokens():
            return Wanted(task="tokens", end_id=task.end_id)
        case Regress():
            return Wanted(task="regress", values=task.values, target=task.undone)
    return Wanted(task="raw")
