"""Order of the steps of an export."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, overload

import msgspec
import numpy as np
import onnx
import onnxruntime
import onnxscript
import PIL
import torch
import torchvision
from torch import nn

from exporter import parity
from exporter.architectures.rebuild import RebuiltNetwork, rebuild
from exporter.architectures.registry import Architecture
from exporter.architectures.select import choose_architecture
from exporter.backends.backend import WrittenGraphs
from exporter.backends.registry import backends_to_write, compare_staged, is_right_unoptimized, network_source
from exporter.bundle import Staging, check_out, staging
from exporter.checkpoint import Checkpoint, check_unchanged, read_checkpoint
from exporter.checkpoint.memory import check_memory, free_weights, only_new_objects, release_memory
from exporter.errors import ParityError
from exporter.inputs.adapter import InputAdapter, InputPipeline
from exporter.inputs.registry import open_adapter
from exporter.inputs.tensor.adapter import read_batch_axes
from exporter.localize.locate import locate_fault
from exporter.object_path import noting_skipped
from exporter.options.export import ExportOptions
from exporter.options.in_memory import saved_network
from exporter.options.rules import DEFAULT_TASK
from exporter.outputs.assumptions import output_assumptions
from exporter.outputs.labels import assumed_labels, check_lines
from exporter.outputs.registry import infer_postprocessing
from exporter.outputs.target_transform import read_target_option
from exporter.parity.advice import advise
from exporter.parity.golden import choose_golden, golden_limits
from exporter.precision.data import check_data
from exporter.precision.scores import check_task
from exporter.precision.variant import VariantReport, VariantRequest, add_variant, check_request, check_written
from exporter.progress import (
    Advance,
    Progress,
    ProgressListener,
    Step,
    describe_checkpoint,
    describe_keys,
    describe_parity,
    megabytes,
)
from runtime.artifact.golden import golden_to_npz
from runtime.artifact.open import Artifact
from runtime.artifact.proof import golden_input
from runtime.evidence import Evidence, GoldenInput, evidence_to_json
from runtime.manifest import FORMAT_VERSION, LAYOUT, Golden, Manifest, Source


class ExportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote, and the proof; ``variant`` is what was measured of the one that was asked for."""

    artifact: Path
    manifest: Manifest
    parity: Evidence
    steps: tuple[Step, ...]
    variant: VariantReport | None = None

    def __repr__(self) -> str:
        return f"<ExportResult '{self.artifact}': {self.parity!r}>"

    def _repr_html_(self) -> str:
        """Return the evidence as HTML, for notebooks."""
        return f"<p>{escape(str(self.artifact))}</p>{self.parity._repr_html_()}"


@overload
def export(checkpoint: ExportOptions, *, listener: ProgressListener | None = None) -> ExportResult: ...


@overload
def export(
    checkpoint: str | Path | nn.Module,
    arch: Architecture | None = None,
    *,
    listener: ProgressListener | None = None,
    **options: Any,
) -> ExportResult: ...


def export(
    checkpoint: str | Path | nn.Module | ExportOptions,
    arch: Architecture | None = None,
    *,
    listener: ProgressListener | None = None,
    **options: Any,
) -> ExportResult:
    """Export a checkpoint, or a network in memory, as an artifact proven equal to the eager model, or write nothing.

    ``arch`` and ``options`` are the fields of ExportOptions and TaskOptions by name, where paths may be strings and
    sequences lists, and ``transform`` stands for ``preprocess``; an ExportOptions takes the place of them all. For a
    network, ``sample`` is an input of it, which describes ``inputs``. ``listener`` hears of each step.

    Raises ExportError: its subclasses say whether the checkpoint, the architecture, the preprocessing, the conversion
    or the parity check is the cause.
    """
    if isinstance(checkpoint, nn.Module):
        with saved_network(checkpoint, options if arch is None else {"arch": arch, **options}) as prepared:
            return run(prepared, listener)
    if not isinstance(checkpoint, ExportOptions):
        checkpoint = ExportOptions.from_keywords(checkpoint, arch, **options)
    return run(checkpoint, listener)


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What an export has before it writes: the network, its inputs, and the eager model on its cases."""

    options: ExportOptions
    checkpoint: Checkpoint
    rebuilt: RebuiltNetwork
    adapter: InputPipeline
    eager: parity.EagerModel
    labels: tuple[str, ...]
    labels_finding: str
    skipped_source: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What an export has written before it is proven.

    ``draft`` is the manifest's, ``fallbacks`` has a sentence for a conversion that fell back on another exporter,
    ``missing`` one on each form that could not be made, and ``golden`` names the golden inputs.
    """

    draft: Manifest
    fallbacks: tuple[str, ...]
    missing: tuple[str, ...]
    golden: tuple[GoldenInput, ...]


def run(options: ExportOptions, listener: ProgressListener | None = None) -> ExportResult:
    """Carry out an export; ``listener`` hears of each step."""
    progress = Progress(listener)
    options.check_export()
    options = replace(options, task_options=read_target_option(options.task_options.complete(), trust=options.trust))
    check_out(options.artifact_path, force=options.force)
    request = _variant_request(options)
    with noting_skipped() as skipped:
        subject = replace(_prepare(options, progress), skipped_source=skipped)
    with only_new_objects(), staging(options.artifact_path, force=options.force) as stage:
        written = _write(subject, stage, progress)
        # Copies of the weights that nothing needs any more; torch's exporter leaves cycles behind.
        free_weights(subject.rebuilt.network, kept=subject.eager.reference.network)
        subject = replace(subject, rebuilt=replace(subject.rebuilt, network=subject.eager.reference.network))
        release_memory(subject.rebuilt.network)
        with progress.step("parity") as step:
            evidence = _prove(subject, written, stage.folder, progress.advance)
            evidence = msgspec.structs.replace(evidence, golden=written.golden)
            golden = golden_limits(
                parity.NoiseMeasurement(noise=evidence.noise),
                prepared_limit=subject.adapter.prepared_limit,
                decoder_tolerance=subject.adapter.decoder_tolerance,
            )
            step.finding = describe_parity(evidence, subject.adapter.noun)
            check_unchanged(subject.checkpoint)
        stage.write(LAYOUT.parity, evidence_to_json(evidence))
        manifest = msgspec.structs.replace(
            written.draft,
            golden=golden,
            files=stage.files(),
            parity=evidence.summary(),
            compared=evidence.compared(),
        )
        report = None
        if request is not None:
            staged = Artifact(path=stage.folder, manifest=manifest)
            manifest, report = add_variant(staged, stage, request, progress)
            report = msgspec.structs.replace(report, artifact=str(options.artifact_path))
        with progress.step("write") as step:
            stage.finish(manifest)
            if report is not None:
                check_written(stage, manifest.name, report.precision)
            size_bytes = sum(file.size_bytes for file in manifest.files.values())
            step.finding = f"{options.artifact_path}, {megabytes(size_bytes)}"
    return ExportResult(
        artifact=options.artifact_path,
        manifest=manifest,
        parity=evidence,
        steps=tuple(progress.done),
        variant=report,
    )


def _prepare(options: ExportOptions, progress: Progress) -> _Subject:
    """Read the checkpoint, rebuild its network, and run the eager model on the cases that parity compares."""
    with progress.step("read") as step:
        checkpoint = read_checkpoint(
            options.checkpoint,
            weights=options.weights,
            trust=options.trust,
            imports=options.imports,
            rebuilt=options.arch is not None,
            ignore_keys=options.ignore_keys,
        )
        check_memory(options.checkpoint, checkpoint.parameters, ignore=options.ignore_memory)
        step.finding = describe_checkpoint(checkpoint)
    with progress.step("rebuild") as step:
        arch, arguments, reason = options.arch, dict[str, object](), ""
        if arch is None:
            arch, arguments, reason = choose_architecture(checkpoint)
        arguments = {**arguments, **options.arguments}
        axes = read_batch_axes(options.inputs)
        rebuilt = rebuild(arch, arguments, checkpoint, trust=options.trust, batch_axes=axes)
        step.finding = _describe_network(rebuilt, checkpoint, reason)
    with progress.step("preprocessing") as step:
        adapter = open_adapter(options, rebuilt)
        rebuilt = replace(rebuilt, network=adapter.arrange(rebuilt.network))
        step.finding = adapter.describe()
    request = _variant_request(options)
    if request is not None and request.calibration is not None:
        check_data(request.calibration, adapter.inputs, request.min_agreement, column=request.column)
    with progress.step("reference") as step:
        # A second network, built and loaded apart from the one that is exported.
        untouched = rebuild(arch, arguments, checkpoint, trust=options.trust, batch_axes=axes).network
        untouched = adapter.arrange(untouched)
        reference = parity.Reference(untouched, adapter.prepare)
        outputs = reference.run(adapter.cases(), advance=progress.advance)
        batch = reference.batch_form(outputs)
        release_memory(untouched)
        task_options = adapter.assume_task(options.task_options, untouched, outputs.values[0])
        options.check(task=task_options.task or DEFAULT_TASK)
        postprocessing = infer_postprocessing(
            outputs.values,
            task_options,
            labels_file=LAYOUT.labels,
            name=type(untouched).__name__,
            batch_axes=batch.axes,
        )
        if request is not None:
            check_task(postprocessing.task, options.artifact_name)
        step.finding = _describe_reference(outputs, batch, f"{adapter.noun}: {postprocessing.finding}")
    with progress.step("labels") as step:

        def assume(classes: int) -> tuple[tuple[str, ...], str]:
            if len(adapter.labels) == classes:
                return adapter.labels, f"{classes} from the model's config.json"
            return assumed_labels(classes=classes, torchvision_name=rebuilt.torchvision_name)

        labels, step.finding = postprocessing.read_labels(options.labels, assume)
        check_lines(labels)
        postprocessing = postprocessing.with_labels(labels, file=LAYOUT.labels)
    eager = parity.EagerModel(
        source=adapter,
        reference=reference,
        run=outputs,
        postprocessing=postprocessing,
        takes_batches=not batch.obstacle,
    )
    return _Subject(
        options=options,
        checkpoint=checkpoint,
        rebuilt=rebuilt,
        adapter=adapter,
        eager=eager,
        labels=labels,
        labels_finding=step.finding,
    )


def _variant_request(options: ExportOptions) -> VariantRequest | None:
    """Return what a variant was asked for with; None where none was. Raises ExportError where nothing could meet it."""
    if options.precision is None:
        return None
    request = VariantRequest(
        precision=options.precision,
        calibration=options.calibration,
        column=options.column,
        min_agreement=options.min_agreement,
    )
    check_request(request)
    return request


def _write(subject: _Subject, stage: Staging, progress: Progress) -> _Written:
    """Write every file of the artifact but the evidence and the manifest."""
    eager, adapter = subject.eager, subject.adapter
    source = network_source(subject.rebuilt.network, adapter, eager, subject.options)
    graphs: WrittenGraphs | None = None
    missing: list[str] = []
    for backend in backends_to_write(subject.options):
        with progress.step(backend.title) as step:
            form = backend.write(stage, source)
            release_memory(subject.rebuilt.network)
            step.finding = form.finding
            graphs = form.graphs or graphs
            missing += [form.missing] if form.missing else []
    assert graphs is not None
    for name, data in adapter.files.items():
        stage.write(name, data)
    if subject.labels:
        stage.write(LAYOUT.labels, "".join(f"{label}\n" for label in subject.labels).encode())
    weights = sum(file.size_bytes for file in stage.files().values())
    golden = choose_golden(eager.references, eager.postprocessing.task, subject.labels, weights=weights)
    stage.write(LAYOUT.golden, golden_to_npz(golden))
    fallbacks = (f"{parity.LEGACY_EXPORTER}, as dynamo failed: {graphs.fallback}",) if graphs.fallback else ()
    names = {reference.case.data: reference.case.name for reference in eager.references}
    return _Written(
        draft=_manifest(subject, graphs, stage),
        fallbacks=fallbacks,
        missing=tuple(missing),
        golden=tuple(golden_input(names[case.source], case.source) for case in golden.cases),
    )


def _prove(subject: _Subject, written: _Written, folder: Path, advance: Advance) -> Evidence:
    """Return the evidence on the artifact in ``folder``, as it will be served; raise ParityError unless it passed."""
    options, adapter, eager = subject.options, subject.adapter, subject.eager
    artifact = Artifact(path=folder, manifest=written.draft, mapped=True)
    expected = parity.build_inputs(
        eager,
        # What the user asked for, whatever the draft says.
        manifest=msgspec.structs.replace(artifact.manifest, task=eager.postprocessing.task, inputs=adapter.inputs),
        labels=subject.labels,
        max_ratio=options.max_ratio,
        remarks=parity.Remarks(
            assumptions=(
                *subject.skipped_source,
                *subject.rebuilt.assumptions,
                *output_assumptions(options.task_options, eager.postprocessing),
                *([f"the labels: {subject.labels_finding}"] if subject.labels and not options.names_labels else []),
                *written.missing,
            ),
            fallbacks=written.fallbacks,
        ),
        advance=advance,
    )
    expected = replace(expected, thorough=options.thorough)
    evidence = compare_staged(artifact, expected, adapter, eager.postprocessing, advance=advance)
    if evidence.passed:
        return evidence
    location = ""
    if options.locate is not None:
        report = locate_fault(eager, evidence, artifact, max_ratio=options.max_ratio, folder=options.locate)
        location = f" Located: {report.sentence}."
    failed = evidence.verdict == "failed"
    verdict = "not equal to the eager model" if failed else "the comparison is inconclusive"
    worst = evidence.rows[evidence.first_fault].worst_input if evidence.first_fault is not None else ""
    action = advise(
        evidence,
        right_unoptimized=is_right_unoptimized(artifact, expected, evidence),
        exporter=artifact.manifest.source.onnx_exporter,
        hidden=expected.describe_hidden() or expected.describe_unstable(worst),
    )
    raise ParityError(
        f"'{evidence.artifact}': {verdict}: {evidence.reason}.{location} Nothing was written. {action}", report=evidence
    )


def _describe_reference(run: parity.ReferenceRun, batch: parity.BatchForm, rest: str) -> str:
    """Return on how many cases the eager model ran, and what is unusual about it."""
    moved = [
        f"'{name}' has the batch as dimension {axis}, which becomes the first" for name, axis in batch.axes.items()
    ]
    alone = ["it takes one input at a time"] if batch.obstacle else []
    return "; ".join((f"eager PyTorch on {len(run.cases)} {rest}", *run.dropped, *moved, *alone))


def _manifest(subject: _Subject, graphs: WrittenGraphs, stage: Staging) -> Manifest:
    rebuilt, adapter = subject.rebuilt, subject.adapter
    return Manifest(
        format_version=FORMAT_VERSION,
        name=subject.options.artifact_name,
        task=subject.eager.postprocessing.task,
        inputs=adapter.inputs,
        outputs=graphs.outputs,
        variants=(graphs.variant,),
        golden=Golden(file=LAYOUT.golden, prepared_limit=0.0, output_limits={}, end_to_end_limits={}),
        source=Source(
            architecture=rebuilt.reference,
            arguments=_plain(rebuilt.arguments),
            checkpoint_sha256=subject.checkpoint.sha256,
            checkpoint_entry=subject.checkpoint.entry,
            keys=rebuilt.keys,
            onnx_exporter=graphs.exporter,
        ),
        files=stage.files(),
        tools=_tools(adapter),
        parity=None,
        onnx=graphs.versions,
    )


def _describe_network(rebuilt: RebuiltNetwork, checkpoint: Checkpoint, reason: str) -> str:
    arguments = ", ".join(f"{key}={json.dumps(value)}" for key, value in _plain(rebuilt.arguments).items())
    count = len(checkpoint.tensors)
    return (
        f"{rebuilt.reference}({arguments}){f', {reason}' if reason else ''}: {count} of {count} "
        f"tensors{describe_keys(rebuilt.keys)}"
    )


def _tools(adapter: InputAdapter) -> dict[str, str]:
    """Return the versions that decide the bytes of an artifact, by name."""
    modules = (np, onnx, onnxruntime, onnxscript, PIL, torch, torchvision)
    versions = {module.__name__: str(module.__version__) for module in modules}
    versions |= {name: version(name) for name in adapter.libraries if find_spec(name)}
    return dict(sorted({**versions, "python": platform.python_version()}.items()))


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments as JSON can hold them: what Python callers pass beyond that, as its repr."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(arguments), default=repr))
    return plain
