"""How an artifact was exported, as far as its manifest and files tell; the user says the rest again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from msgspec import UNSET

from exporter.inputs.registry import complete_options
from exporter.options.export import ExportOptions
from exporter.options.rules import flag_of, option_fields
from exporter.options.stated import FLAGS
from exporter.options.target import is_named_target
from exporter.options.task import TaskOptions
from exporter.outputs.postprocessing import Postprocessing
from exporter.outputs.probabilities import ClassPostprocessing
from exporter.outputs.registry import infer_postprocessing, options_of_task
from runtime.artifact.open import Artifact
from runtime.manifest import Affine, Calibration

# What the user's own tokenizer states.
_OF_TOKENIZER = frozenset({"--tokenizer", "--max-length", "--pad-id"})


def options_from_artifact(artifact: Artifact, given: ExportOptions) -> ExportOptions:
    """Return ``given`` with what it leaves open filled in from the artifact.

    Raises ExportError for an option that is not for the artifact's inputs or its task, and where rows have no
    transform: the artifact has it as a graph alone, which cannot be its own reference.
    """
    # A task that the user states is compared with the artifact's as such.
    task = given.task_options.task or artifact.manifest.task.kind
    given.check(kinds=[spec.kind for spec in artifact.manifest.inputs], task=task)
    return complete_options(given, artifact)


def postprocessing_from_artifact(
    artifact: Artifact,
    values: Sequence[Any],
    given: TaskOptions | None = None,
    *,
    batch_axes: Mapping[str, int] = MappingProxyType({}),
) -> Postprocessing:
    """Return what the export put behind the network, for what the eager one returned, one value per case.

    Options that are ``given`` take the place of the artifact's own. ``batch_axes`` says which dimension of its tensors
    is the batch, where it is not the first.
    """
    manifest = artifact.manifest
    options = _merged(options_of_task(manifest.task, values[0]), given or TaskOptions())
    postprocessing = infer_postprocessing(
        values, options, labels_file="", name=manifest.source.architecture, batch_axes=batch_axes
    )
    if manifest.calibration is not None and isinstance(postprocessing, ClassPostprocessing):
        return replace(postprocessing, scales=manifest.calibration.scales)
    return postprocessing


def own_values(artifact: Artifact, given: ExportOptions) -> Iterator[str]:
    """Yield a sentence on what was taken from the artifact itself, as no option states it."""
    manifest, completed = artifact.manifest, options_from_artifact(artifact, given)
    options = {about.name: about.metadata["option"] for about in option_fields(type(given))}
    taken = {}
    for part in (*manifest.inputs, manifest.task):
        of_part = getattr(part, "name", "") if completed.parts else ""
        stated = {flag_of(name, options[name]) for name in _of_part(given, of_part).given}
        own_tokenizer = getattr(part, "tokenizer", "") and _of_part(completed, of_part).tokenizer_input is None
        known = stated | (_OF_TOKENIZER if own_tokenizer else frozenset())
        for field, flags in FLAGS.items():
            value = getattr(part, field, None)
            if not known & set(flags) and value not in (None, (), "", UNSET):
                taken[f"{of_part}: {' or '.join(flags)}" if of_part else " or ".join(flags)] = value
    if taken:
        listed = ", ".join(_shown(flag, value) for flag, value in taken.items())
        yield f"what no option states, so that the artifact's own was taken: {listed}"
    if manifest.calibration is not None:
        yield f"the calibration: {_describe(manifest.calibration)}, as the artifact has it: not fitted again"


def _of_part(options: ExportOptions, name: str) -> ExportOptions:
    """Return the options of a part; those of the whole input where it has no such part."""
    return options.of_part(name) if name in options.parts else options


def _describe(calibration: Calibration) -> str:
    if len(calibration.scales) > 1:
        return f"{len(calibration.scales)} scales of logits, one per class"
    return f"a temperature of {1 / calibration.scales[0]:.3g}"


def _shown(flag: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"{flag} ({'on' if value else 'off'})"
    return f"{flag} ({value})" if isinstance(value, int) else flag


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
    named = given.target_transform is None or is_named_target(given.target_transform)
    completed: dict[str, Any] = {"target_transform": given.target_transform or steps[scaling is not None :]}
    if named and scaling is not None:
        completed |= {"target_mean": scaling.offset, "target_std": scaling.scale}
    return replace(own, **{**completed, **stated})
