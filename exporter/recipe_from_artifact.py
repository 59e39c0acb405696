"""How an artifact was exported, as far as its manifest and files tell; the user says the rest again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from exporter.conversion.network_io import main_output
from exporter.errors import ExportError
from exporter.outputs.postprocessing import Postprocessing, infer_postprocessing
from exporter.recipe import ExportOptions, TaskOptions
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


def options_from_artifact(artifact: Artifact, given: ExportOptions) -> ExportOptions:
    """Return ``given`` with what it leaves open filled in from the artifact.

    Raises ExportError where rows have no transform: the artifact has it as a graph alone, which cannot be its own
    reference.
    """
    options = given
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
                options = replace(
                    options,
                    vocabulary=given.vocabulary or words,
                    pad_id=spec.pad_id if given.pad_id is None else given.pad_id,
                    max_length=given.max_length or spec.max_length,
                )
            case TextInput():
                options = replace(
                    options,
                    tokenizer=given.tokenizer or artifact.file(spec.tokenizer),
                    tokenizer_input=spec if given.tokenizer is None else None,
                    text_pairs=spec.pairs,
                    max_length=given.max_length or spec.max_length,
                )
            case ImageInput():
                mode = f"{spec.dtype}[{spec.channels}]" if spec.mode == "bands" else spec.mode
                options = replace(options, exif=given.exif or spec.exif, pixel_format=given.pixel_format or mode)
            case TabularInput():
                if given.preprocess is None:
                    raise ExportError(
                        f"'{artifact.path}': takes rows: expected the transform that was fitted on them, which the "
                        "artifact has as a graph alone, got none. Give it with --preprocess."
                    )
                columns = given.columns or tuple(column.name for column in spec.columns)
                options = replace(options, columns=columns)
    return replace(options, inputs=given.inputs or tuple(inputs))


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
