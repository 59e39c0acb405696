"""How an artifact was exported, as far as its manifest and files tell; the user says the rest again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from exporter.errors import ExportError
from exporter.outputs.postprocessing import Postprocessing
from exporter.outputs.registry import infer_postprocessing, options_of_task
from exporter.recipe import Recipe
from runtime.artifact.open import Artifact
from runtime.manifest import ImageInput, TabularInput, TensorInput, TextInput, TokensInput


def recipe_from_artifact(artifact: Artifact, given: Recipe) -> Recipe:
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
                    for name, kind in spec.derived_inputs.items()
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
                    text_pairs=spec.pairs,
                    max_length=given.max_length or spec.max_length,
                )
            case ImageInput():
                mode = f"{spec.dtype}[{spec.channels}]" if spec.mode == "bands" else spec.mode
                recipe = replace(recipe, exif=given.exif or spec.exif, pixel_format=given.pixel_format or mode)
            case TabularInput():
                if given.preprocess is None:
                    raise ExportError(
                        f"'{artifact.path}': takes rows: expected the transform that was fitted on them, which the "
                        "artifact has as a graph alone, got none. Give it with --preprocess."
                    )
                columns = given.columns or tuple(column.name for column in spec.columns)
                recipe = replace(recipe, columns=columns)
    return replace(recipe, inputs=given.inputs or tuple(inputs))


def postprocessing_from_artifact(artifact: Artifact, values: Sequence[Any]) -> Postprocessing:
    """Return what the export put behind the network, for what the eager one returned, one value a case."""
    manifest = artifact.manifest
    options = options_of_task(manifest.task, values[0])
    return infer_postprocessing(values, options, labels_file="", name=manifest.source.architecture)
