"""An artifact, however old, against its checkpoint and training transform: the same proof that the export made."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from exporter import parity
from exporter.architectures.rebuild import rebuild
from exporter.architectures.registry import Architecture
from exporter.backends.registry import geometry_executions, open_paths
from exporter.checkpoint import Checkpoint, read_checkpoint
from exporter.errors import CheckpointError, ConversionError, ParityError
from exporter.inputs.adapter import InputKind
from exporter.inputs.registry import open_adapter
from exporter.localize.locate import FaultLocator, FaultReport
from exporter.outputs.labels import read_labels
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.pictures import draw_pictures
from exporter.recipe import Recipe
from exporter.recipe_from_artifact import postprocessing_from_artifact, recipe_from_artifact
from runtime.artifact.open import Artifact, open_artifact
from runtime.engine.devices import DeviceOptions
from runtime.errors import DeviceError
from runtime.evidence import Evidence, Row, Stage
from runtime.manifest import Input, TextInput
from runtime.model import Model
from runtime.reports import Picture
from runtime.verify import verify_model

# The path of the evidence that came along.
GOLDEN = "golden.npz"


@dataclass(frozen=True, kw_only=True)
class RecheckResult:
    """The evidence; pictures of what differs most, and the node at fault, where they were asked for."""

    evidence: Evidence
    pictures: tuple[Picture, ...] = ()
    location: FaultReport | None = None


def check(
    path: str | Path,
    recipe: Recipe,
    *,
    arch: Architecture | None = None,
    arguments: Mapping[str, Any] | None = None,
    pixels: bool = True,
    pictures: bool = False,
    locate: Path | None = None,
) -> RecheckResult:
    """Return how an artifact stands beside the eager model and the user's own preprocessing.

    ``recipe`` says what the export said, as far as the manifest does not; ``arch`` and ``arguments`` are the
    manifest's unless given. Every file's hash is compared first. ``pixels`` compares those of images after each step of
    the transform, too, on images made for that; ``pictures`` draws the inputs that differ most; into the folder
    ``locate`` goes the first node of the network that is at fault, if one is. Raises CheckpointError when the recipe's
    checkpoint is not the exported one, ParityError where another transform was folded in.
    """
    artifact = open_artifact(path)
    manifest = artifact.manifest
    for name in manifest.files:
        artifact.file(name)
    if manifest.calibration is not None:
        raise ConversionError(
            f"'{path}': is calibrated, and so differs from its checkpoint on purpose: expected one as exported. "
            "Check that one, or run 'truecopy verify' on this one."
        )
    source = manifest.source
    found = read_checkpoint(
        recipe.checkpoint, weights=source.checkpoint_entry or None, trust=recipe.trust, imports=recipe.imports
    )
    if found.sha256 != source.checkpoint_sha256:
        raise CheckpointError(
            f"'{recipe.checkpoint}': not the checkpoint of '{manifest.name}': expected SHA-256 "
            f"{source.checkpoint_sha256}, got {found.sha256}. Name the file that was exported, or export this one."
        )
    chosen = _architecture(arch, source.architecture, found)
    rebuilt = rebuild(chosen, {**source.arguments, **(arguments or {})}, found)
    recalled = recipe_from_artifact(artifact, recipe)
    adapter = open_adapter(recalled, rebuilt)
    if adapter.inputs != manifest.inputs:
        raise ParityError(
            f"'{manifest.name}': another transform was folded in: expected {_describe(manifest.inputs)}, got "
            f"{adapter.describe()}: {_describe(adapter.inputs)}. Pass the one that it was exported with (--preprocess, "
            "--input, --tokenizer), or export it again."
        )
    reference = parity.Reference(rebuilt.network, adapter.prepare)
    outputs = reference.run(adapter.cases())
    postprocessing = postprocessing_from_artifact(artifact, outputs.values)
    eager = parity.EagerModel(source=adapter, reference=reference, run=outputs, postprocessing=postprocessing)
    labels = artifact.labels()
    if recipe.labels is not None:
        labels = read_labels(recipe.labels, classes=len(labels))
    subject = parity.build_inputs(eager, manifest=manifest, labels=labels, max_ratio=recipe.max_ratio)
    subject = replace(subject, not_compared=(*subject.not_compared, *_own_references(recipe, manifest.inputs, labels)))
    evidence, drawn = _compare(artifact, subject, adapter, postprocessing, pictures=pictures)
    if pixels:
        evidence = _with_rows(evidence, subject, adapter.check_steps(geometry_executions()))
    evidence = _with_rows(evidence, subject, _golden_rows(artifact))
    location = None
    if locate is not None:
        locator = FaultLocator(eager, max_ratio=recipe.max_ratio, folder=locate)
        location = locator.find(evidence, manifest, artifact.path)
    return RecheckResult(evidence=evidence, pictures=drawn, location=location)


def _compare(
    artifact: Artifact,
    subject: parity.ParityInputs,
    adapter: InputKind,
    postprocessing: Postprocessing,
    *,
    pictures: bool,
) -> tuple[Evidence, tuple[Picture, ...]]:
    """Return the evidence on every device that is here, and pictures where they are wanted."""
    missing: list[str] = []
    with ExitStack() as stack:
        models = [stack.enter_context(Model(artifact, device="cpu"))]
        fast: Model | None = None
        try:
            models.append(stack.enter_context(Model(artifact, device="cuda")))
            fast = stack.enter_context(Model(artifact, device="cuda", options=DeviceOptions(tf32=True)))
        except DeviceError as error:
            missing.append(f"CUDA: {error}")
        paths: list[parity.ServedPath] = []
        for model in models:
            only = None if model.device == "cpu" else (parity.RUNTIME,)
            opened = stack.enter_context(open_paths(artifact, model, adapter, postprocessing, only=only))
            paths += opened if model.device == "cpu" else _end_to_end(opened)
        evidence = parity.compare(paths, replace(subject, not_compared=(*subject.not_compared, *missing)))
        drawn = draw_pictures(paths, subject, evidence) if pictures else ()
        if fast is None:
            return evidence, drawn
        opened = stack.enter_context(open_paths(artifact, fast, adapter, postprocessing, only=(parity.RUNTIME,)))
        with_tf32 = parity.compare(_end_to_end(opened), subject)
        worst = max((row.ratio or 0.0 for row in with_tf32.rows), default=0.0)
        told = f"TF32 on CUDA, which sessions leave off: not judged, {worst:.2g} times the noise floor end to end"
        return msgspec.structs.replace(evidence, not_compared=(*evidence.not_compared, told)), drawn


def _end_to_end(paths: Sequence[parity.ServedPath]) -> list[parity.ServedPath]:
    """Return the paths end to end: the stages of all paths are run on the CPU, and say nothing of a device."""
    return [replace(path, stages={}) for path in paths]


def _with_rows(evidence: Evidence, subject: parity.ParityInputs, rows: Sequence[Row]) -> Evidence:
    return parity.judge(msgspec.structs.replace(evidence, rows=(*evidence.rows, *rows)), random=subject.noise.random)


def _golden_rows(artifact: Artifact) -> list[Row]:
    """Return what 'truecopy verify' says: evidence that travels along may be stale, or know what no option told."""
    with Model(artifact, device="cpu") as model:
        verification = verify_model(artifact, model, whole_path=True)
    rows = []
    for one in verification.checks:
        name = one.name.partition(",")[0]
        prepared: Stage = "geometry" if one.unit == "gray levels" else "tokens"
        stages: dict[str, Stage] = {"prepared": prepared, "network": "network", "labels": "labels"}
        rows.append(
            Row(
                path=GOLDEN,
                device="cpu",
                stage=stages.get(name, "end to end"),
                group=one.name,
                planned=verification.inputs,
                inputs=verification.inputs,
                fault=None if one.passed else "value",
                finding="" if one.passed else f"check '{one.name}': expected at most {one.limit:g}, got {one.worst:g}",
                worst_input=one.name,
                unit=one.unit,
                difference=one.worst,
                difference_p99=None,
                share=None,
                floor=None,
                limit=one.limit,
            )
        )
    return rows


def _architecture(given: Architecture | None, recorded: str, found: Checkpoint) -> Architecture:
    if given is not None:
        return given
    return found.module if found.module is not None else recorded


def _own_references(recipe: Recipe, inputs: Sequence[Input], labels: Sequence[str]) -> tuple[str, ...]:
    """Return what the artifact itself was the reference of, as nobody gave the user's own."""
    told = []
    if recipe.tokenizer is None and any(isinstance(spec, TextInput) for spec in inputs):
        told.append("the tokenizer with training's own: the artifact's was taken for it; --tokenizer names another")
    if recipe.labels is None and labels:
        told.append("the names of the classes with training's own: the artifact's were taken; --labels names others")
    return tuple(told)


def _describe(inputs: Sequence[Input]) -> str:
    return msgspec.json.encode(inputs).decode()
