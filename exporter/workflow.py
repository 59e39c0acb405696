"""Order of the steps of an export."""

import gc
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, overload

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
from exporter.assemble import assemble, convert_network
from exporter.bundle import Staging, check_out, staging
from exporter.checkpoint import Checkpoint, read_checkpoint
from exporter.conversion.network_io import flatten
from exporter.conversion.to_onnx import ConvertedNetwork
from exporter.errors import ParityError
from exporter.inputs.adapter import InputAdapter, lengths_of
from exporter.inputs.registry import infer_task_options, open_adapter
from exporter.inputs.text.adapter import TextAdapter
from exporter.localize.locate import FaultLocator
from exporter.outputs.labels import assumed_labels
from exporter.outputs.postprocessing import Postprocessing
from exporter.outputs.registry import infer_postprocessing
from exporter.outputs.target_transform import read_target_option
from exporter.parity.golden import choose_golden
from exporter.progress import (
    Progress,
    ProgressListener,
    Step,
    describe_checkpoint,
    describe_keys,
    describe_parity,
    megabytes,
)
from exporter.recipe import ExportOptions
from runtime.artifact.golden import golden_to_npz
from runtime.artifact.open import Artifact
from runtime.evidence import Evidence, evidence_to_json
from runtime.manifest import (
    FORMAT_VERSION,
    Golden,
    Manifest,
    Output,
    Source,
    Variant,
)
from runtime.model import Model

_MODEL, _NETWORK, _WEIGHTS = "model.onnx", "network.onnx", "weights.bin"
TORCHSCRIPT = "model.torchscript"
_GOLDEN = "golden.npz"
_LABELS = "labels.txt"
_PARITY = "parity.json"

# Golden outputs are run by other processors and other versions of onnxruntime: limits are this many times parity's.
_OTHER_MACHINES = 4.0


class ExportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote, and the proof."""

    artifact: Path
    manifest: Manifest
    parity: Evidence
    steps: tuple[Step, ...]


@overload
def export(checkpoint: ExportOptions, *, listener: ProgressListener | None = None) -> ExportResult: ...


@overload
def export(
    checkpoint: str | Path,
    arch: Architecture | None = None,
    *,
    listener: ProgressListener | None = None,
    **options: Any,
) -> ExportResult: ...


def export(
    checkpoint: str | Path | ExportOptions,
    arch: Architecture | None = None,
    *,
    listener: ProgressListener | None = None,
    **options: Any,
) -> ExportResult:
    """Export a checkpoint as an artifact proven equal to the eager model, or write nothing.

    ``arch`` and ``options`` are the fields of ExportOptions and TaskOptions by name, where paths may be strings and
    sequences lists; an ExportOptions takes the place of them all. ``listener`` hears of each step.

    Raises ExportError: its subclasses say whether the checkpoint, the architecture, the preprocessing, the conversion
    or the parity check is the cause.
    """
    if not isinstance(checkpoint, ExportOptions):
        checkpoint = ExportOptions.from_keywords(checkpoint, arch, **options)
    return run(checkpoint, listener)


def run(options: ExportOptions, listener: ProgressListener | None = None) -> ExportResult:
    """Carry out a options, telling ``listener`` about each step."""
    steps = Progress(listener)
    options = replace(options, task_options=read_target_option(options.task_options, trust=options.trust))
    check_out(options.artifact_path, force=options.force)

    with steps.step("read") as step:
        checkpoint = read_checkpoint(
            options.checkpoint, weights=options.weights, trust=options.trust, imports=options.imports
        )
        step.finding = describe_checkpoint(checkpoint)
    with steps.step("rebuild") as step:
        arch, needed, reason = options.arch, dict[str, object](), ""
        if arch is None:
            arch, needed, reason = choose_architecture(checkpoint)
        rebuilt = rebuild(arch, {**needed, **options.arguments}, checkpoint)
        arguments = ", ".join(f"{key}={json.dumps(value)}" for key, value in _plain(rebuilt.arguments).items())
        step.finding = (
            f"{rebuilt.reference}({arguments}){f', {reason}' if reason else ''}: {len(checkpoint.tensors)} of "
            f"{len(checkpoint.tensors)} tensors{describe_keys(rebuilt.keys)}"
        )
    with steps.step("preprocessing") as step:
        adapter = open_adapter(options, rebuilt)
        step.finding = adapter.describe()
    with steps.step("reference") as step:
        cases = adapter.cases()
        # A second network, built and loaded apart from the one that is exported.
        untouched = rebuild(arch, {**needed, **options.arguments}, checkpoint).network
        reference = parity.Reference(untouched, adapter.prepare)
        prepared, values = reference.call(cases)
        task_options = infer_task_options(options.task_options, adapter, untouched, values[0])
        postprocessing = infer_postprocessing(values, task_options, labels_file=_LABELS, name=type(untouched).__name__)
        answers = reference.finish(cases, prepared, values, postprocessing)
        step.finding = f"eager PyTorch on {len(cases)} {adapter.noun}: {postprocessing.finding}"
    with steps.step("labels") as step:
        labels, step.finding = _read_labels(options, rebuilt, adapter, postprocessing)
        postprocessing = postprocessing.with_labels(labels, file=_LABELS)
    example = adapter.example(prepared)
    flat = flatten(rebuilt.network, tuple(example), values[0], whole=postprocessing.whole)
    with staging(options.artifact_path, force=options.force) as stage:
        with steps.step("TorchScript") as step:
            size = _write_torchscript(stage, adapter, flat, example, postprocessing)
            step.finding = f"{TORCHSCRIPT}, {size}" if size else f"none: {adapter.no_torchscript}"
        with steps.step("ONNX") as step:
            converted = convert_network(
                rebuilt.network, flat, adapter, postprocessing, example, adapter.validation_inputs(prepared)
            )
            outputs = postprocessing.with_shapes(converted.shapes)
            variant, size = _write_graphs(stage, converted, adapter, postprocessing, outputs)
            onnx_exporter = converted.exporter
            step.finding = f"{', '.join(_files(variant))}, {size} ({onnx_exporter})"
        # Copies of the weights that nothing needs any more; torch's exporter leaves cycles behind.
        rebuilt = replace(rebuilt, network=untouched)
        del flat, converted
        gc.collect()
        for name, data in adapter.files.items():
            stage.write(name, data)
        if labels:
            stage.write(_LABELS, "".join(f"{label}\n" for label in labels).encode())
        weights = sum(file.size_bytes for file in stage.files().values())
        stage.write(_GOLDEN, golden_to_npz(choose_golden(answers, postprocessing.task, labels, weights=weights)))
        draft = _manifest(options, checkpoint, rebuilt, adapter, postprocessing, outputs, variant, onnx_exporter, stage)
        with steps.step("parity") as step:
            measure = partial(parity.measure_noise, untouched, answers, postprocessing, max_ratio=options.max_ratio)
            asked = parity.ParityInputs(
                # What the user asked for, whatever the draft says.
                manifest=msgspec.structs.replace(draft, task=postprocessing.task, inputs=adapter.inputs),
                answers=answers,
                batch=reference.answer(adapter.batch(cases), postprocessing),
                measured=measure(),
                remeasure=partial(measure, every_input=True),
                labels=labels,
                max_ratio=options.max_ratio,
                lengths=lengths_of(adapter, prepared),
                not_compared=adapter.skipped_samples,
            )
            locator = None
            if options.locate is not None:
                locator = FaultLocator(
                    untouched,
                    adapter,
                    postprocessing,
                    answers,
                    values[0],
                    max_ratio=options.max_ratio,
                    folder=options.locate,
                )
            evidence = _prove(
                stage.folder, draft, asked, adapter, postprocessing, locator, torchscript=TORCHSCRIPT in draft.files
            )
            measured = parity.NoiseMeasurement(noise=evidence.noise)
            draft = msgspec.structs.replace(draft, golden=_golden_limits(draft, adapter, measured))
            step.finding = describe_parity(evidence, adapter.noun)
        with steps.step("write") as step:
            stage.write(_PARITY, evidence_to_json(evidence))
            manifest = msgspec.structs.replace(draft, files=stage.files(), parity=evidence.summary())
            stage.finish(manifest)
            step.finding = (
                f"{options.artifact_path}, {megabytes(sum(file.size_bytes for file in manifest.files.values()))}"
            )
    return ExportResult(artifact=options.artifact_path, manifest=manifest, parity=evidence, steps=tuple(steps.done))


def _read_labels(
    options: ExportOptions, rebuilt: RebuiltNetwork, adapter: InputAdapter, postprocessing: Postprocessing
) -> tuple[tuple[str, ...], str]:
    """Return the class names, none for a task without classes, and where they are from."""

    def assume(classes: int) -> tuple[tuple[str, ...], str]:
        if isinstance(adapter, TextAdapter) and len(adapter.labels) == classes:
            return adapter.labels, f"{classes} from the model's config.json"
        return assumed_labels(classes=classes, torchvision_name=rebuilt.torchvision_name)

    return postprocessing.read_labels(options.labels, assume)


def _write_torchscript(
    stage: Staging,
    adapter: InputAdapter,
    network: nn.Module,
    example: Mapping[str, torch.Tensor],
    postprocessing: Postprocessing,
) -> str:
    """Write the archive and return its size, or nothing where there can be none."""
    archive = adapter.to_torchscript(network, example, postprocessing)
    if archive is None:
        return ""
    stage.write(TORCHSCRIPT, archive)
    return megabytes(len(archive))


def _write_graphs(
    stage: Staging,
    converted: ConvertedNetwork,
    adapter: InputAdapter,
    postprocessing: Postprocessing,
    outputs: Sequence[Output],
) -> tuple[Variant, str]:
    """Write the graphs, and return their names and size."""
    graphs = assemble(
        converted.model,
        adapter.raw_graph_part(),
        adapter.network_graph_part(),
        postprocessing,
        outputs,
        weights_file=_WEIGHTS,
    )
    files = {_WEIGHTS: graphs.weights, _MODEL: graphs.model.SerializeToString(deterministic=True)}
    if graphs.network is not None:
        files[_NETWORK] = graphs.network.SerializeToString(deterministic=True)
    for name, data in files.items():
        stage.write(name, data)
    network = _NETWORK if graphs.network is not None else _MODEL
    variant = Variant(precision="fp32", model=_MODEL, network=network, weights=_WEIGHTS)
    return variant, megabytes(sum(map(len, files.values())))


def _files(variant: Variant) -> list[str]:
    return list(dict.fromkeys((variant.model, variant.network, variant.weights)))


def _prove(
    folder: Path,
    draft: Manifest,
    asked: parity.ParityInputs,
    adapter: InputAdapter,
    postprocessing: Postprocessing,
    locator: FaultLocator | None = None,
    *,
    torchscript: bool,
) -> Evidence:
    """Return the evidence on the staged artifact, run as it will be served; raise ParityError unless it passed."""
    with (
        Model(Artifact(path=folder, manifest=draft), device="cpu") as model,
        adapter.open_paths(model, folder, postprocessing, torchscript=TORCHSCRIPT if torchscript else None) as paths,
    ):
        evidence = parity.compare(paths, asked)
    if not evidence.passed:
        word = "not equal to the eager model" if evidence.verdict == "failed" else "the comparison is inconclusive"
        action = (
            "Nothing was written. Do not ship this model; report the stage above with its architecture and transform."
            if evidence.verdict == "failed"
            else "Nothing was written. Check that the checkpoint is a trained one, or pass others with --samples."
        )
        where = f" Located: {locator.find(evidence, draft, folder).sentence}." if locator is not None else ""
        raise ParityError(f"'{evidence.artifact}': {word}: {evidence.reason}.{where} {action}", report=evidence)
    return evidence


def _golden_limits(draft: Manifest, adapter: InputAdapter, measured: parity.NoiseMeasurement) -> Golden:
    """Return how far another machine may stray: some times as far as this one, and for what its decoder rounds."""
    limits = {name: _OTHER_MACHINES * limit for name, limit in measured.limits().items()}
    return msgspec.structs.replace(
        draft.golden,
        prepared_limit=adapter.prepared_limit,
        output_limits=limits,
        end_to_end_limits={
            name: max(limit, adapter.decoder_tolerance * measured.size(name)) if limit else 0.0
            for name, limit in limits.items()
        },
    )


def _manifest(
    options: ExportOptions,
    checkpoint: Checkpoint,
    rebuilt: RebuiltNetwork,
    adapter: InputAdapter,
    postprocessing: Postprocessing,
    outputs: tuple[Output, ...],
    variant: Variant,
    onnx_exporter: Literal["dynamo", "legacy"],
    stage: Staging,
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=options.artifact_name,
        task=postprocessing.task,
        inputs=adapter.inputs,
        outputs=outputs,
        variants=(variant,),
        golden=Golden(file=_GOLDEN, prepared_limit=0.0, output_limits={}, end_to_end_limits={}),
        source=Source(
            architecture=rebuilt.reference,
            arguments=_plain(rebuilt.arguments),
            checkpoint_sha256=checkpoint.sha256,
            checkpoint_entry=checkpoint.entry,
            keys=rebuilt.keys,
            onnx_exporter=onnx_exporter,
        ),
        files=stage.files(),
        tools=_tools(adapter),
        parity=None,
    )


def _tools(adapter: InputAdapter) -> dict[str, str]:
    """Return the versions that decide the bytes of an artifact, by name."""
    modules = (np, onnx, onnxruntime, onnxscript, PIL, torch, torchvision)
    versions = {module.__name__: str(module.__version__) for module in modules}
    if isinstance(adapter, TextAdapter):
        versions |= {name: version(name) for name in ("tokenizers", "transformers") if find_spec(name)}
    return dict(sorted({**versions, "python": platform.python_version()}.items()))


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments as JSON can hold them: what Python callers pass beyond that, as its repr."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(arguments), default=repr))
    return plain
