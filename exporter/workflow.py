"""export(): the one place that states the order of the steps."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
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
from exporter.architectures.choosing import choose_architecture
from exporter.architectures.families import Architecture
from exporter.architectures.rebuilding import Rebuilt, rebuild
from exporter.bundle import Staging, check_out, staging
from exporter.checkpoint import Checkpoint, read_checkpoint
from exporter.errors import ParityError, PreprocessingError
from exporter.graphs import IMAGE, PROBABILITIES, assemble
from exporter.labels import assumed_labels, read_labels
from exporter.parity.tolerance import SCORE_LIMIT
from exporter.pipeline import Pipeline
from exporter.preprocessing import (
    HUGGING_FACE,
    TIMM,
    Reading,
    read_hugging_face,
    read_preset,
    read_timm,
    read_transform,
)
from exporter.recipe import Recipe
from exporter.steps import Listener, Step, Steps
from exporter.to_onnx import Converted, to_onnx
from exporter.to_torchscript import to_torchscript, trace
from runtime.artifact import Artifact
from runtime.golden import GoldenSet, golden_to_npz
from runtime.manifest import (
    FORMAT_VERSION,
    Golden,
    ImageInput,
    KeyTransform,
    Labels,
    Manifest,
    Output,
    ParitySummary,
    Source,
    Variant,
    to_json,
)
from runtime.model import Model

_VARIANT = Variant(precision="fp32", model="model.onnx", network="network.onnx", weights="weights.bin")
TORCHSCRIPT = "model.torchscript"
# Another machine's JPEG decoder may round otherwise: by a grey level, which moved scores by less than 0.002 when
# measured.
_GOLDEN = Golden(file="golden.npz", pixel_limit=1, score_limit=SCORE_LIMIT, end_to_end_limit=0.02)
_LABELS = "labels.txt"
_PARITY = "parity.json"

_UNPROVEN = ParitySummary(verdict="unproven", inputs=0, pixel_difference=0, score_difference=0.0, label_agreement=0.0)

# The golden set is evidence, not payload: about this share of the artifact before compression, but always two images.
_GOLDEN_SHARE = 0.02
_GOLDEN_MAXIMUM = 12
_GOLDEN_MINIMUM = 2


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote, and the proof."""

    artifact: Path
    manifest: Manifest
    parity: parity.Report
    steps: tuple[Step, ...]


def export(
    checkpoint: str | Path,
    architecture: Architecture | None = None,
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
    force: bool = False,
    listener: Listener | None = None,
) -> Exported:
    """Export a checkpoint as an artifact, proven equal to the eager model, or write nothing.

    ``architecture`` is a torchvision name, ``timm:NAME``, ``hf:FOLDER``, ``FILE.py:NAME``, ``package.module:NAME``, a
    module, or a callable, called with ``arguments``; by default the one known architecture that fits. ``weights`` names
    the entry of the checkpoint to take; ``trust`` allows a whole pickled module, whose source is found in ``imports``.
    ``preprocess`` is the evaluation transform or a reference to it; by default the one that torchvision or timm ships
    for the architecture. ``exif`` says that the training loader turned photos by their EXIF orientation. ``labels`` is
    a file with a class name a line, ``samples`` a folder of photos to prove with, ``out`` the folder to write
    (``artifacts/<name>``), which ``force`` replaces. Raises ExportError.
    """
    recipe = Recipe(
        checkpoint=Path(checkpoint),
        architecture=architecture,
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
        force=force,
    )
    return run(recipe, listener)


def run(recipe: Recipe, listener: Listener | None = None) -> Exported:
    """Carry out a recipe, telling ``listener`` about each step."""
    steps = Steps(listener)
    check_out(recipe.artifact_path, force=recipe.force)

    with steps.step("read") as step:
        checkpoint = read_checkpoint(
            recipe.checkpoint, weights=recipe.weights, trust=recipe.trust, imports=recipe.imports
        )
        step.finding = _describe_checkpoint(checkpoint)
    with steps.step("rebuild") as step:
        architecture, needed, reason = recipe.architecture, dict[str, object](), ""
        if architecture is None:
            architecture, needed, reason = choose_architecture(checkpoint)
        rebuilt = rebuild(architecture, {**needed, **recipe.arguments}, checkpoint)
        arguments = ", ".join(f"{key}={json.dumps(value)}" for key, value in _plain(rebuilt.arguments).items())
        step.finding = (
            f"{rebuilt.reference}({arguments}){f', {reason}' if reason else ''}: {len(checkpoint.tensors)} of "
            f"{len(checkpoint.tensors)} tensors{_describe_keys(rebuilt.keys)}"
        )
    with steps.step("preprocessing") as step:
        reading = _read_preprocessing(recipe, rebuilt)
        assumed = f"assumed, from {reading.origin}: " if reading.assumed else ""
        step.finding = assumed + reading.describe()
    with steps.step("reference") as step:
        cases = parity.read_cases(recipe.samples)
        # A second network, built and loaded apart from the one that is exported.
        untouched = rebuild(architecture, {**needed, **recipe.arguments}, checkpoint).network
        reference = parity.Reference(untouched, reading, exif=recipe.exif)
        answers = reference.answer(cases)
        softmax = "softmax added" if answers.activation == "softmax" else "the network ends in a softmax: none added"
        step.finding = f"eager PyTorch on {len(cases)} images: {answers.classes} classes, {softmax}"
    with steps.step("labels") as step:
        if recipe.labels is not None:
            labels = read_labels(recipe.labels, classes=answers.classes)
            step.finding = f"{len(labels)} from {recipe.labels}"
        else:
            labels, step.finding = assumed_labels(classes=answers.classes, torchvision_name=rebuilt.torchvision_name)
    example = torch.from_numpy(answers.normalized[:2])
    with staging(recipe.artifact_path, force=recipe.force) as stage:
        with steps.step("TorchScript") as step:
            pipeline = Pipeline(trace(rebuilt.network, example), reading.steps, answers.activation)
            stage.write(TORCHSCRIPT, archive := to_torchscript(pipeline))
            step.finding = f"{TORCHSCRIPT}, {_size(len(archive))}"
        with steps.step("ONNX") as step:
            converted = to_onnx(rebuilt.network, example)
            size = _write_graphs(stage, converted, reading, answers)
            step.finding = f"{_VARIANT.model}, {_VARIANT.network}, {_VARIANT.weights}, {size} ({converted.exporter})"
        stage.write(_LABELS, "".join(f"{label}\n" for label in labels).encode())
        stage.write(_GOLDEN.file, golden_to_npz(_golden_set(cases, answers, weights=2 * len(archive))))
        draft = _manifest(recipe, checkpoint, rebuilt, reading, answers, converted, stage)
        with steps.step("parity") as step:
            report = _prove(stage.folder, draft, reference, answers, cases)
            step.finding = _describe_parity(report)
        with steps.step("write") as step:
            stage.write(_PARITY, to_json(report))
            manifest = msgspec.structs.replace(draft, files=stage.files(), parity=report.summary())
            stage.finish(manifest)
            step.finding = f"{recipe.artifact_path}, {_size(sum(file.size_bytes for file in manifest.files.values()))}"
    return Exported(artifact=recipe.artifact_path, manifest=manifest, parity=report, steps=tuple(steps.done))


def _read_preprocessing(recipe: Recipe, rebuilt: Rebuilt) -> Reading:
    if recipe.preprocess is not None:
        return read_transform(recipe.preprocess)
    if rebuilt.reference.startswith(TIMM):
        return read_timm(rebuilt.reference.removeprefix(TIMM))
    if rebuilt.reference.startswith(HUGGING_FACE):
        return read_hugging_face(Path(rebuilt.reference.removeprefix(HUGGING_FACE)))
    if not rebuilt.torchvision_name:
        raise PreprocessingError(
            f"'{rebuilt.reference}': no transform is known for it. Pass the one that you evaluate with: "
            "--preprocess FILE.py:NAME."
        )
    return read_preset(rebuilt.torchvision_name)


def _write_graphs(stage: Staging, converted: Converted, reading: Reading, answers: parity.Answers) -> str:
    graphs = assemble(
        converted.model,
        reading.steps,
        activation=answers.activation,
        classes=answers.classes,
        weights_file=_VARIANT.weights,
    )
    files = {
        _VARIANT.weights: graphs.weights,
        _VARIANT.network: graphs.network.SerializeToString(deterministic=True),
        _VARIANT.model: graphs.model.SerializeToString(deterministic=True),
    }
    for name, data in files.items():
        stage.write(name, data)
    return _size(sum(map(len, files.values())))


def _prove(
    folder: Path,
    draft: Manifest,
    reference: parity.Reference,
    answers: parity.Answers,
    cases: tuple[parity.Case, ...],
) -> parity.Report:
    """Return the report on the staged artifact, run as it will be served; raise ParityError unless it passed."""
    model = Model(Artifact(path=folder, manifest=draft), device="cpu")
    with parity.open_paths(model, folder, torchscript=TORCHSCRIPT) as paths:
        report = parity.compare(paths, reference, answers, cases, draft.inputs[0])
    if report.verdict != "passed":
        word = "not equal to the eager model" if report.verdict == "failed" else "the comparison is inconclusive"
        action = (
            "Nothing was written. Do not ship this model; report the stage above with its architecture and transform."
            if report.verdict == "failed"
            else "Nothing was written. Check that the checkpoint is a trained one, or pass photos with --samples."
        )
        raise ParityError(f"'{draft.name}': {word}: {report.reason}. {action}", report=report)
    return report


def _golden_set(cases: tuple[parity.Case, ...], answers: parity.Answers, *, weights: int) -> GoldenSet:
    """Return some inputs, spread over all kinds: as many as their share of the artifact allows."""
    typical = int(np.median([len(case.data) for case in cases])) + answers.pixels[0].nbytes
    count = max(_GOLDEN_MINIMUM, min(_GOLDEN_MAXIMUM, len(cases), int(_GOLDEN_SHARE * weights) // typical))
    rows = np.linspace(0, len(cases) - 1, count).round().astype(int)
    return GoldenSet(
        images=tuple(cases[row].data for row in rows), pixels=answers.pixels[rows], scores=answers.scores[rows]
    )


def _manifest(
    recipe: Recipe,
    checkpoint: Checkpoint,
    rebuilt: Rebuilt,
    reading: Reading,
    answers: parity.Answers,
    converted: Converted,
    stage: Staging,
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=recipe.artifact_name,
        task="classify",
        inputs=(ImageInput(name=IMAGE, mode="RGB", exif=recipe.exif),),
        preprocessing=reading.steps,
        outputs=(Output(name=PROBABILITIES, dtype="float32", shape=("batch", answers.classes)),),
        labels=Labels(file=_LABELS, count=answers.classes),
        variants=(_VARIANT,),
        golden=_GOLDEN,
        source=Source(
            architecture=rebuilt.reference,
            arguments=_plain(rebuilt.arguments),
            checkpoint_sha256=checkpoint.sha256,
            checkpoint_entry=checkpoint.entry,
            keys=rebuilt.keys,
            onnx_exporter=converted.exporter,
        ),
        files=stage.files(),
        tools=_tools(),
        parity=_UNPROVEN,
    )


def _tools() -> dict[str, str]:
    """Return the versions that decide the bytes of an artifact, by name."""
    modules = (np, onnx, onnxruntime, onnxscript, PIL, torch, torchvision)
    versions = {module.__name__: str(module.__version__) for module in modules}
    return dict(sorted({**versions, "python": platform.python_version()}.items()))


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments as JSON can hold them: what Python callers pass beyond that, as its repr."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(arguments), default=repr))
    return plain


def _describe_checkpoint(checkpoint: Checkpoint) -> str:
    choice = f" ({checkpoint.choice})" if checkpoint.choice else ""
    entry = f", under '{checkpoint.entry}'{choice}" if checkpoint.entry else ""
    if checkpoint.non_finite:
        entry += f"; NaN or infinity in {len(checkpoint.non_finite)} tensors, such as '{checkpoint.non_finite[0]}'"
    return (
        f"{checkpoint.path.name}, {_size(checkpoint.size_bytes)}: {len(checkpoint.tensors)} tensors, "
        f"{checkpoint.parameters / 1e6:.1f} million values{entry}"
    )


def _describe_keys(keys: KeyTransform) -> str:
    """Return what was done to the checkpoint's keys, in words."""
    done = [
        *(f"'{name}' dropped" for name in keys.dropped),
        *([f"prefix '{keys.removed_prefix}' removed"] if keys.removed_prefix else []),
        *([f"prefix '{keys.added_prefix}' added"] if keys.added_prefix else []),
        *([f"{len(keys.renamed)} keys renamed"] if keys.renamed else []),
        *(f"'{place}' is {what}" for place, what in keys.replaced.items()),
        *([f"{len(keys.tied)} tied tensors filled in"] if keys.tied else []),
        *([f"{keys.filled_counters} num_batches_tracked filled in"] if keys.filled_counters else []),
        *(f"cast from {name}" for name in keys.cast_from),
    ]
    return "".join(f", {what}" for what in done)


def _describe_parity(report: parity.Report) -> str:
    summary = report.summary()
    return (
        f"{len(report.inputs)} images, batches of {', '.join(map(str, report.batch_sizes))}: "
        f"labels {summary.label_agreement:.0%}, scores within {summary.score_difference:.0e} for equal pixels"
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
