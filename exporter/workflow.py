"""export(): the one place that states the order of the steps."""

import gc
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import onnxscript
import PIL
import torch
import torchvision

from exporter import parity
from exporter.architectures.rebuild import RebuiltNetwork, rebuild
from exporter.architectures.registry import Architecture
from exporter.architectures.select import choose_architecture
from exporter.backends.backend import WrittenGraphs
from exporter.backends.registry import backends_to_write, compare_staged, network_source
from exporter.bundle import Staging, check_out, staging
from exporter.checkpoint import Checkpoint, read_checkpoint
from exporter.errors import ExportError, ParityError
from exporter.inputs.adapter import InputAdapter, InputKind
from exporter.inputs.registry import open_adapter
from exporter.inputs.tokens.options import read_vocabulary
from exporter.localize.locate import FaultLocator
from exporter.outputs.labels import assumed_labels, read_labels
from exporter.outputs.postprocessing import Postprocessing, TaskOptions, infer_postprocessing
from exporter.parity.golden import choose_golden
from exporter.progress import Progress, ProgressListener, Step
from exporter.recipe import Recipe
from exporter.step_findings import describe_checkpoint, describe_keys, describe_parity, megabytes
from runtime.artifact.golden import golden_to_npz
from runtime.artifact.open import Artifact
from runtime.evidence import Evidence, evidence_to_json
from runtime.manifest import (
    FORMAT_VERSION,
    Golden,
    Labels,
    Manifest,
    Raw,
    Regress,
    Source,
    Tokens,
)

_GOLDEN = "golden.npz"
_LABELS = "labels.txt"
_PARITY = "parity.json"

# Golden outputs are run by other processors and other versions of onnxruntime: limits are this many times parity's.
_OTHER_MACHINES = 4.0


_ANYTHING = TaskOptions()


class ExportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote, and the proof."""

    artifact: Path
    manifest: Manifest
    parity: Evidence
    steps: tuple[Step, ...]


def export(
    checkpoint: str | Path,
    arch: Architecture | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    preprocess: str | Callable[..., Any] | None = None,
    labels: str | Path | None = None,
    samples: str | Path | None = None,
    weights: str | None = None,
    trust: bool = False,
    imports: Sequence[str | Path] = (),
    name: str | None = None,
    out: str | Path | None = None,
    exif: bool = False,
    pixel_format: str | None = None,
    inputs: Sequence[str] = (),
    tokenizer: str | Path | None = None,
    vocabulary: str | Path | None = None,
    max_length: int | None = None,
    pad_id: int | None = None,
    text_pairs: bool = False,
    columns: Sequence[str] = (),
    wanted: TaskOptions = _ANYTHING,
    max_ratio: float = parity.MAX_RATIO,
    locate: str | Path | None = None,
    force: bool = False,
    listener: ProgressListener | None = None,
) -> ExportResult:
    """Export a checkpoint as an artifact, proven equal to the eager model, or write nothing.

    ``arch`` is a torchvision name, ``timm:NAME``, ``hf:FOLDER``, ``FILE.py:NAME``, ``package.module:NAME``, a module,
    or a callable, called with ``arguments``; by default the one known architecture that fits. ``weights`` names the
    entry of the checkpoint to take; ``trust`` allows a whole pickled module, whose source is found in ``imports``.
    ``preprocess`` is the evaluation transform or a reference to it; by default the one that torchvision or timm ships
    for the architecture. ``exif`` says that the training loader turned photos by their EXIF orientation;
    ``pixel_format`` what it gave to the transform: RGB, L, or arrays such as ``uint16[4]``; by default as the network's
    channels say. ``labels`` is a file with a class name a line, ``samples`` a folder of inputs to prove with, ``out``
    the folder to write (``artifacts/<name>``), which ``force`` replaces. ``inputs`` describe plain tensors, for
    networks of other things than photos, as ``x=float32[batch,3,28,28]``, or token sequences, as
    ``x=tokens[batch,length]``, with the words of ``vocabulary``, a file with one a line. A fitted scikit-learn
    transform as ``preprocess`` makes it a network of rows, whose ``columns`` are named if it was fitted without names;
    ``tokenizer``, a Hugging Face folder or a tokenizer.json, one of texts, or, with ``text_pairs``, of pairs of them.
    Texts and sequences have at most ``max_length`` tokens, and ``pad_id`` fills up shorter sequences of a batch.
    ``wanted`` says what is to come out. A difference of more than ``max_ratio`` times the eager model's own noise is a
    fault; where it is one of the network, the first node at fault is written to the folder ``locate``. Raises
    ExportError.
    """
    recipe = Recipe(
        checkpoint=Path(checkpoint),
        arch=arch,
        arguments=arguments or {},
        preprocess=preprocess,
        labels=Path(labels) if labels is not None else None,
        samples=Path(samples) if samples is not None else None,
        weights=weights,
        trust=trust,
        imports=tuple(map(Path, imports)),
        name=name,
        out=Path(out) if out is not None else None,
        exif=exif,
        pixel_format=pixel_format,
        inputs=tuple(inputs),
        tokenizer=Path(tokenizer) if tokenizer is not None else None,
        vocabulary=Path(vocabulary) if vocabulary is not None else None,
        max_length=max_length,
        pad_id=pad_id,
        text_pairs=text_pairs,
        columns=tuple(columns),
        wanted=wanted,
        max_ratio=max_ratio,
        locate=Path(locate) if locate is not None else None,
        force=force,
    )
    return run(recipe, listener)


def run(recipe: Recipe, listener: ProgressListener | None = None) -> ExportResult:
    """Carry out a recipe, telling ``listener`` about each step."""
    steps = Progress(listener)
    check_out(recipe.artifact_path, force=recipe.force)

    with steps.step("read") as step:
        checkpoint = read_checkpoint(
            recipe.checkpoint, weights=recipe.weights, trust=recipe.trust, imports=recipe.imports
        )
        step.finding = describe_checkpoint(checkpoint)
    with steps.step("rebuild") as step:
        arch, needed, reason = recipe.arch, dict[str, object](), ""
        if arch is None:
            arch, needed, reason = choose_architecture(checkpoint)
        rebuilt = rebuild(arch, {**needed, **recipe.arguments}, checkpoint)
        arguments = ", ".join(f"{key}={json.dumps(value)}" for key, value in _plain(rebuilt.arguments).items())
        step.finding = (
            f"{rebuilt.reference}({arguments}){f', {reason}' if reason else ''}: {len(checkpoint.tensors)} of "
            f"{len(checkpoint.tensors)} tensors{describe_keys(rebuilt.keys)}"
        )
    with steps.step("preprocessing") as step:
        adapter = open_adapter(recipe, rebuilt)
        step.finding = adapter.describe()
    with steps.step("reference") as step:
        # A second network, built and loaded apart from the one that is exported.
        untouched = rebuild(arch, {**needed, **recipe.arguments}, checkpoint).network
        reference = parity.Reference(untouched, adapter.prepare)
        outputs = reference.run(adapter.cases())
        wanted = adapter.assume_task(recipe.wanted, untouched, outputs.values[0])
        postprocessing = infer_postprocessing(
            outputs.values, wanted, labels_file=_LABELS, name=type(untouched).__name__
        )
        step.finding = f"eager PyTorch on {len(outputs.cases)} {adapter.noun}: {postprocessing.finding}"
    with steps.step("labels") as step:
        labels, step.finding = _read_labels(recipe, rebuilt, adapter, postprocessing)
        if isinstance(postprocessing.task, Tokens) and labels:
            named = Labels(file=_LABELS, count=len(labels))
            postprocessing = replace(postprocessing, task=msgspec.structs.replace(postprocessing.task, labels=named))
    eager = parity.EagerModel(source=adapter, reference=reference, run=outputs, postprocessing=postprocessing)
    source = network_source(rebuilt.network, adapter, postprocessing, outputs)
    with staging(recipe.artifact_path, force=recipe.force) as stage:
        graphs: WrittenGraphs | None = None
        for backend in backends_to_write():
            with steps.step(backend.title) as step:
                form = backend.write(stage, source)
                step.finding = form.finding
                graphs = form.graphs or graphs
        assert graphs is not None
        # Copies of the weights that nothing needs any more; torch's exporter leaves cycles behind.
        rebuilt = replace(rebuilt, network=untouched)
        del source
        gc.collect()
        for name, data in adapter.files.items():
            stage.write(name, data)
        if labels:
            stage.write(_LABELS, "".join(f"{label}\n" for label in labels).encode())
        weights = sum(file.size_bytes for file in stage.files().values())
        golden = choose_golden(eager.references, postprocessing.task, labels, weights=weights)
        stage.write(_GOLDEN, golden_to_npz(golden))
        draft = _manifest(recipe, checkpoint, rebuilt, adapter, postprocessing, graphs, stage)
        with steps.step("parity") as step:
            subject = parity.build_inputs(
                eager,
                # What the user asked for, whatever the draft says.
                manifest=msgspec.structs.replace(draft, task=postprocessing.task, inputs=adapter.inputs),
                labels=labels,
                max_ratio=recipe.max_ratio,
            )
            locator = None
            if recipe.locate is not None:
                locator = FaultLocator(eager, max_ratio=recipe.max_ratio, folder=recipe.locate)
            evidence = _prove(Artifact(path=stage.folder, manifest=draft), subject, adapter, postprocessing, locator)
            measured = parity.NoiseMeasurement(noise=evidence.noise)
            draft = msgspec.structs.replace(draft, golden=_golden_limits(draft, adapter, measured))
            step.finding = describe_parity(evidence, adapter.noun)
        with steps.step("write") as step:
            stage.write(_PARITY, evidence_to_json(evidence))
            manifest = msgspec.structs.replace(draft, files=stage.files(), parity=evidence.summary())
            stage.finish(manifest)
            step.finding = (
                f"{recipe.artifact_path}, {megabytes(sum(file.size_bytes for file in manifest.files.values()))}"
            )
    return ExportResult(artifact=recipe.artifact_path, manifest=manifest, parity=evidence, steps=tuple(steps.done))


def _read_labels(
    recipe: Recipe, rebuilt: RebuiltNetwork, adapter: InputAdapter, postprocessing: Postprocessing
) -> tuple[tuple[str, ...], str]:
    """Return the class names, none for a task without classes, and where they are from."""
    if isinstance(postprocessing.task, Tokens):
        if recipe.labels is None:
            return (), "no --labels: token numbers stay numbers"
        words = read_vocabulary(recipe.labels)
        return words, f"{len(words)} words from {recipe.labels}"
    if isinstance(postprocessing.task, Regress | Raw):
        if recipe.labels is not None:
            raise ExportError(
                f"'{recipe.labels}': labels are for classes: expected none with --task {postprocessing.task.kind}. "
                "Leave out --labels."
            )
        return (), "none: the task has no classes"
    classes = postprocessing.task.labels.count
    if recipe.labels is not None:
        labels = read_labels(recipe.labels, classes=classes)
        return labels, f"{len(labels)} from {recipe.labels}"
    if len(adapter.labels) == classes:
        return adapter.labels, f"{classes} from the model's config.json"
    return assumed_labels(classes=classes, torchvision_name=rebuilt.torchvision_name)


def _prove(
    artifact: Artifact,
    subject: parity.ParityInputs,
    adapter: InputKind,
    postprocessing: Postprocessing,
    locator: FaultLocator | None = None,
) -> Evidence:
    """Return the evidence on the staged artifact, run as it will be served; raise ParityError unless it passed."""
    evidence = compare_staged(artifact, subject, adapter, postprocessing)
    if not evidence.passed:
        word = "not equal to the eager model" if evidence.verdict == "failed" else "the comparison is inconclusive"
        action = (
            "Nothing was written. Do not ship this model; report the stage above with its architecture and transform."
            if evidence.verdict == "failed"
            else "Nothing was written. Check that the checkpoint is a trained one, or pass others with --samples."
        )
        where = (
            f" Located: {locator.find(evidence, artifact.manifest, artifact.path).sentence}."
            if locator is not None
            else ""
        )
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
    recipe: Recipe,
    checkpoint: Checkpoint,
    rebuilt: RebuiltNetwork,
    adapter: InputAdapter,
    postprocessing: Postprocessing,
    graphs: WrittenGraphs,
    stage: Staging,
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=recipe.artifact_name,
        task=postprocessing.task,
        inputs=adapter.inputs,
        outputs=graphs.outputs,
        variants=(graphs.variant,),
        golden=Golden(file=_GOLDEN, prepared_limit=0.0, output_limits={}, end_to_end_limits={}),
        source=Source(
            architecture=rebuilt.reference,
            arguments=_plain(rebuilt.arguments),
            checkpoint_sha256=checkpoint.sha256,
            checkpoint_entry=checkpoint.entry,
            keys=rebuilt.keys,
            onnx_exporter=graphs.exporter,
        ),
        files=stage.files(),
        tools=_tools(adapter),
        parity=None,
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
