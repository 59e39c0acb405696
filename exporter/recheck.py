"""'truecopy parity': an artifact checked against its checkpoint and training transform again."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from exporter import parity
from exporter.backends.registry import (
    compare_manifests,
    compare_whole,
    fallbacks_of,
    geometry_executions,
    missing_forms,
    open_paths,
)
from exporter.checkpoint import check_unchanged
from exporter.checkpoint.memory import only_new_objects
from exporter.eager.source import open_eager_network
from exporter.errors import ParityError
from exporter.inputs.adapter import InputPipeline
from exporter.inputs.registry import open_adapter
from exporter.localize.locate import FaultReport, locate_fault
from exporter.object_path import noting_skipped
from exporter.options.export import ExportOptions
from exporter.outputs.assumptions import output_assumptions
from exporter.outputs.postprocessing import Postprocessing
from exporter.outputs.registry import options_of_task
from exporter.outputs.target_transform import read_target_option
from exporter.parity.golden import check_golden
from exporter.parity.pictures import draw_pictures
from exporter.parity.proof_cache import ProofCache
from exporter.parity.whole import check_lengths, check_task_name, describe_difference, with_checks
from exporter.precision.flips import draw_golden_flips
from exporter.progress import Progress, ProgressListener, describe_rows
from exporter.recipe_from_artifact import options_from_artifact, own_values, postprocessing_from_artifact
from runtime.artifact.golden import read_golden
from runtime.artifact.open import Artifact, artifact_errors, open_artifact
from runtime.artifact.proof import check_proof
from runtime.engine.devices import DeviceOptions
from runtime.errors import DeviceError
from runtime.evidence import Evidence, Row, WholeCheck
from runtime.manifest import DEFERRING, FULL_PRECISION, LAYOUT, Input
from runtime.model import Model
from runtime.reports import Picture, unfinished
from runtime.verify import Check, verify_model


@dataclass(frozen=True, kw_only=True)
class RecheckResult:
    """The evidence; pictures of what differs most, and the node at fault, where they were asked for."""

    evidence: Evidence
    pictures: tuple[Picture, ...] = ()
    location: FaultReport | None = None


@dataclass(frozen=True, kw_only=True)
class _Extent:
    """How much is compared and drawn, and who hears of it."""

    pixels: bool
    thorough: bool
    pictures: bool
    progress: Progress
    cache: ProofCache | None


def recheck_artifact(
    path: str | Path,
    options: ExportOptions,
    *,
    pixels: bool = True,
    pictures: bool = False,
    listener: ProgressListener | None = None,
    cache: ProofCache | None = None,
) -> RecheckResult:
    """Return how an artifact compares with the eager model and the user's own preprocessing.

    ``options`` repeat those of the export as far as the artifact does not hold them. Every file's hash is compared
    first. ``pixels`` also compares the artifact's geometry on images made for that, which ``options.thorough`` takes
    more of; ``pictures`` draws the inputs that differ most. The first faulty node of the network goes into the folder
    ``options.locate``. ``listener`` hears of each step. What ``cache`` has a proof of is not run again, and the
    evidence says so.

    Raises CheckpointError when the checkpoint is not the exported one, ParityError where another transform was folded
    in.
    """
    options = replace(options, task_options=read_target_option(options.task_options, trust=options.trust))
    progress = Progress(listener)
    with progress.step("read") as step, noting_skipped() as skipped:
        artifact = open_artifact(path, mapped=True)
        manifest = artifact.manifest
        for name in manifest.files:
            artifact.file(name)
        rebuilt = open_eager_network(artifact, options)
        step.finding = f"{manifest.name}, {len(manifest.files)} files"
        adapter = open_adapter(options_from_artifact(artifact, options), rebuilt)
    names = [spec.name for spec in adapter.inputs]
    difference = describe_difference(_transforms(adapter.inputs, names), _transforms(manifest.inputs, names))
    if difference:
        raise ParityError(
            f"'{manifest.name}': another transform was folded in than {adapter.describe()}: {difference}. Pass the one "
            "that it was exported with (--preprocess, --input, --tokenizer), or export it again."
        )
    reference = parity.Reference(adapter.arrange(rebuilt.network), adapter.prepare)
    with progress.step("reference") as step:
        outputs = reference.run(adapter.cases(), advance=progress.advance)
        batch = reference.batch_form(outputs)
        step.finding = f"eager PyTorch on {len(outputs.cases)} {adapter.noun}"
    task_check = check_task_name(options.task_options.task, options_of_task(manifest.task, outputs.values[0]).task)
    labels = artifact.labels()
    stated = options.task_options if task_check.fault is None else None
    postprocessing = postprocessing_from_artifact(artifact, outputs.values, stated, batch_axes=batch.axes)
    own_labels = options.labels is not None or any(head.labels for head in options.task_options.heads)
    if own_labels:
        labels = postprocessing.own_labels(options.labels, labels)
    if manifest.labels is not None:
        postprocessing = postprocessing.with_labels(labels, file=manifest.labels.file)
    eager = parity.EagerModel(
        source=adapter,
        reference=reference,
        run=outputs,
        postprocessing=postprocessing,
        takes_batches=not batch.obstacle,
    )
    with progress.step("noise") as step:
        subject = parity.build_inputs(
            eager,
            manifest=msgspec.structs.replace(manifest, task=postprocessing.task, inputs=adapter.inputs),
            labels=labels,
            max_ratio=options.max_ratio,
            remarks=parity.Remarks(
                assumptions=(
                    *skipped,
                    *rebuilt.assumptions,
                    *output_assumptions(options.task_options, postprocessing),
                    *own_values(artifact, options),
                    *missing_forms(artifact),
                ),
                fallbacks=fallbacks_of(artifact),
            ),
            advance=progress.advance,
        )
        subject = replace(subject, thorough=options.thorough)
        step.finding = "how far the eager model is from itself"
    differs = [
        check for check in (task_check, *compare_manifests(artifact, subject, adapter)) if check.fault is not None
    ]
    if differs:
        with progress.step("compare") as step:
            evidence = _compare_stated(artifact, subject, adapter, task_check, labels=own_labels)
            step.finding = differs[0].finding
        return RecheckResult(evidence=evidence)
    extent = _Extent(pixels=pixels, thorough=options.thorough, pictures=pictures, progress=progress, cache=cache)
    with only_new_objects():
        evidence, drawn = _compare(artifact, subject, adapter, postprocessing, extent)
    with progress.step("whole") as step:
        evidence = compare_whole(artifact, subject, adapter, evidence, labels=own_labels)
        lengths = check_lengths(options.lengths, evidence.lengths, artifact, stage=adapter.inputs_stage)
        evidence = with_checks(evidence, tuple(lengths), random=subject.noise.random)
        step.finding = ", ".join(dict.fromkeys(check.subject for check in evidence.whole))
    with progress.step("golden") as step:
        golden = [*_golden_rows(artifact, eager, subject), *_variant_rows(artifact)]
        evidence = _with_rows(evidence, subject, golden)
        step.finding = describe_rows(golden)
    if pictures:
        variants = [variant.precision for variant in manifest.variants if variant.approximation is not None]
        drawn += tuple(picture for precision in variants for picture in draw_golden_flips(artifact, precision))
    location = None
    if options.locate is not None:
        with progress.step("locate") as step:
            location = locate_fault(eager, evidence, artifact, max_ratio=options.max_ratio, folder=options.locate)
            step.finding = location.sentence
    check_unchanged(rebuilt.checkpoint)
    return RecheckResult(evidence=evidence, pictures=drawn, location=location)


def _compare(
    artifact: Artifact,
    subject: parity.ParityInputs,
    adapter: InputPipeline,
    postprocessing: Postprocessing,
    extent: _Extent,
) -> tuple[Evidence, tuple[Picture, ...]]:
    """Return the evidence on every device that is here, and pictures where they are wanted."""
    progress = extent.progress
    with ExitStack() as stack:
        with progress.step("open") as step:
            models, fast, missing = _open_models(artifact, stack)
            paths: list[parity.ServedPath] = []
            for model in models:
                only = None if model.device == "cpu" else (parity.RUNTIME,)
                opened = stack.enter_context(open_paths(artifact, model, adapter, postprocessing, only=only))
                paths += opened if model.device == "cpu" else _end_to_end(opened)
            step.finding = ", ".join(
                path.name if path.device == "cpu" else f"{path.name} on {path.device}" for path in paths
            )
        made: Sequence[Row] = ()
        if extent.pixels:
            # Before the comparison, which opens more sessions: the largest images take the most memory.
            with progress.step("made images") as step:
                made = adapter.check_steps(
                    paths,
                    geometry_executions(),
                    thorough=extent.thorough,
                    advance=progress.advance,
                    cache=extent.cache,
                )
                step.finding = "; ".join((describe_rows(made), *_describe_cache(made, extent.cache)))
        with progress.step("compare") as step:
            # What passed and has a finding all the same was not run.
            cached = (row.finding for row in made if row.fault is None and row.finding)
            subject = replace(subject, not_proven=(*subject.not_proven, *missing, *cached))
            evidence = parity.compare(paths, subject, advance=progress.advance)
            step.finding = describe_rows(evidence.rows)
        evidence = _with_rows(evidence, subject, made)
        drawn: tuple[Picture, ...] = ()
        if extent.pictures:
            with progress.step("pictures") as step:
                drawn = draw_pictures(paths, subject, evidence)
                step.finding = f"{len(drawn)} of the inputs that differ most"
        if fast is None:
            return evidence, drawn
        with progress.step("TF32") as step:
            opened = stack.enter_context(open_paths(artifact, fast, adapter, postprocessing, only=(parity.RUNTIME,)))
            with_tf32 = parity.compare(_end_to_end(opened), subject, advance=progress.advance)
            worst = max((row.ratio or 0.0 for row in with_tf32.rows), default=0.0)
            tf32 = f"TF32 on CUDA, which sessions leave off: no verdict, {worst:.2g} times the noise floor end to end"
            step.finding = f"{worst:.2g} times the noise floor"
        return msgspec.structs.replace(evidence, not_proven=(*evidence.not_proven, tf32)), drawn


def _describe_cache(rows: Sequence[Row], cache: ProofCache | None) -> Sequence[str]:
    """Return how many rows are from the cache, and what is wrong with its files."""
    if cache is None:
        return ()
    cached = [row.path for row in rows if row.fault is None and row.finding]
    taken = [f"not run, but taken from the cache: {', '.join(cached)} (--no-cache runs them)"] if cached else []
    return (*taken, *cache.notes)


def _open_models(artifact: Artifact, stack: ExitStack) -> tuple[list[Model], Model | None, list[str]]:
    """Return the runtime's model on every device that is here, the one with TF32, and which devices are missing."""
    models = [stack.enter_context(Model(artifact, device="cpu"))]
    try:
        models.append(stack.enter_context(Model(artifact, device="cuda")))
        fast = stack.enter_context(Model(artifact, device="cuda", options=DeviceOptions(tf32=True)))
    except DeviceError as error:
        return models, None, [f"CUDA: {error}"]
    return models, fast, []


def _end_to_end(paths: Sequence[parity.ServedPath]) -> list[parity.ServedPath]:
    """Return the paths end to end: the stages of all paths are run on the CPU, and say nothing of a device."""
    return [replace(path, stages={}) for path in paths]


def _with_rows(evidence: Evidence, subject: parity.ParityInputs, rows: Sequence[Row]) -> Evidence:
    return parity.judge(msgspec.structs.replace(evidence, rows=(*evidence.rows, *rows)), random=subject.noise.random)


def _golden_rows(artifact: Artifact, eager: parity.EagerModel, subject: parity.ParityInputs) -> list[Row]:
    """Return what is stale of the golden set, compared with the eager model; it may hold what no option repeats."""
    with artifact_errors(artifact.path):
        golden = read_golden(artifact.file(artifact.manifest.golden.file)).cases
        check_proof(artifact, golden)
        checks = tuple(check_golden(golden, eager, subject))
    return _rows_of_checks(artifact.manifest.golden.file, len(golden), checks)


def _variant_rows(artifact: Artifact) -> list[Row]:
    """Return the result of 'truecopy verify' for every precision that is not equal to the eager model."""
    rows = []
    for precision in artifact.manifest.precisions:
        if precision == FULL_PRECISION:
            continue
        with Model(artifact, precision=precision, device="cpu") as model:
            approximation = model.variant.approximation
            golden = LAYOUT.golden if approximation is None else approximation.golden.file
            pair = f", {precision}" if precision.endswith(DEFERRING) else ""
            verification = verify_model(artifact, model, whole_path=True)
        rows += _rows_of_checks(f"{golden}{pair}", verification.inputs, verification.checks)
    return rows


def _rows_of_checks(path: str, inputs: int, checks: Sequence[Check]) -> list[Row]:
    return [
        Row(
            path=path,
            device="cpu",
            stage=check.stage,
            group=check.title,
            planned=inputs,
            inputs=inputs,
            fault=None if check.passed else "value",
            finding="" if check.passed else f"'{check.title}': expected at most {check.limit:g}, got {check.worst:g}",
            worst_input=check.title,
            unit=check.unit,
            difference=check.worst,
            difference_p99=None,
            share=None,
            floor=None,
            limit=check.limit,
        )
        for check in checks
    ]


def _transforms(inputs: Sequence[Input], names: Sequence[str]) -> dict[str, Any]:
    """Return the kinds of inputs, and the transforms that are folded in, by ``names`` in the order of the inputs."""
    values = [{"kind": spec.kind, "preprocessing": getattr(spec, "preprocessing", None)} for spec in inputs]
    return dict(zip((*names, *range(len(names), len(values))), values, strict=False))


def _compare_stated(
    artifact: Artifact, subject: parity.ParityInputs, adapter: InputPipeline, task_check: WholeCheck, *, labels: bool
) -> Evidence:
    """Return the evidence on an artifact that was exported with other options: nothing is run."""
    evidence = unfinished(subject.manifest.name, "", max_ratio=subject.max_ratio, tools=subject.manifest.tools)
    sentence = "what the artifact does to inputs: not run, as it was exported with other options"
    evidence = msgspec.structs.replace(
        evidence,
        noise=subject.noise.noise,
        not_proven=(*subject.not_proven, sentence),
        fallbacks=subject.fallbacks,
    )
    evidence = with_checks(evidence, [task_check], random=subject.noise.random)
    return compare_whole(artifact, subject, adapter, evidence, labels=labels)
