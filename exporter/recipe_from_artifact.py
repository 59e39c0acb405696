"""How an artifact was exported, as far as its manifest and files tell; the user says the rest again."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from exporter.inputs.registry import INPUT_KINDS
from exporter.outputs.postprocessing import Postprocessing
from exporter.outputs.registry import infer_postprocessing, options_of_task
from exporter.recipe import TARGET_FUNCTIONS, ExportOptions, TaskOptions
from runtime.artifact.open import Artifact
from runtime.manifest import Affine, Labels

# Fields of the manifest's inputs and tasks, and the options that state them.
_OPTIONS = {
    "exif": "exif",
    "mode": "pixel_format",
    "max_length": "max_length",
    "pad_id": "pad_id",
    "pairs": "text_pairs",
    "tokenizer": "tokenizer",
    "vocabulary": "vocabulary",
    "thresholds": "thresholds",
    "values": "values",
    "end_id": "end_id",
    "colors": "colors",
    "labels": "labels",
}


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


def postprocessing_from_artifact(
    artifact: Artifact, values: Sequence[Any], given: TaskOptions | None = None
) -> Postprocessing:
    """Return what the export put behind the network, for what the eager one returned, one value a case.

    Options that are ``given`` take the place of the artifact's own.
    """
    manifest = artifact.manifest
    options = _merged(options_of_task(manifest.task, values[0]), given or TaskOptions())
    return infer_postprocessing(values, options, labels_file="", name=manifest.source.architecture)


def own_values(artifact: Artifact, given: ExportOptions) -> Iterator[str]:
    """Yield a sentence on each thing that was taken from the artifact itself, as no option states it."""
    manifest, completed = artifact.manifest, options_from_artifact(artifact, given)
    stated = {about.name: getattr(given, about.name) for about in fields(given)}
    stated |= {about.name: getattr(given.task_options, about.name) for about in fields(given.task_options)}
    if completed.tokenizer is None or given.tokenizer is not None:
        # The user's own tokenizer has these.
        stated |= {"tokenizer": True, "max_length": True, "pad_id": True}
    parts = [(f"input '{spec.name}'", spec) for spec in manifest.inputs] + [("task", manifest.task)]
    for subject, part in parts:
        for field, option in _OPTIONS.items():
            value = getattr(part, field, None)
            if value in (None, (), "") or stated[option] not in (None, ()):
                continue
            shown = "" if isinstance(value, str | tuple | Labels) else f", {value}"
            flag = f"--{option.replace('_', '-')}"
            yield f"'{field}' of the {subject}: the artifact's own was taken{shown}; {flag} states training's"
    if given.task_options.task is None:
        yield f"the task: the artifact's own was taken, {manifest.task.kind}; --task states training's"


def _merged(own: TaskOptions, given: TaskOptions) -> TaskOptions:
    """Return the artifact's own options of a task with those that are given."""
    target = ("target_mean", "target_std", "target_transform")
    stated = {about.name: getattr(given, about.name) for about in fields(given) if getattr(given, about.name)}
    stated |= {} if given.end_id is None else {"end_id": given.end_id}
    if not any(name in stated for name in target):
        return replace(own, **stated)
    # The scaling is undone first; what the user does not repeat of it is the artifact's.
    steps = own.target_transform if isinstance(own.target_transform, tuple) else ()
    scaling = steps[0] if steps and isinstance(steps[0], Affine) else None
    named = given.target_transform is None or _is_named(given.target_transform)
    completed: dict[str, Any] = {"target_transform": given.target_transform or steps[scaling is not None :]}
    if named and scaling is not None:
        completed |= {"target_mean": scaling.offset, "target_std": scaling.scale}
    return replace(own, **{**completed, **stated})


def _is_named(target: Any) -> bool:
    """Return whether a target's transform is one of those that have names, and not a fitted one."""
    return isinstance(target, tuple) and any(
        len(target) == 1 and getattr(target[0], "function", None) == inverse for inverse in TARGET_FUNCTIONS.values()
    )
