"""An artifact, however old, against its checkpoint and training transform: the same proof that the export made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from exporter import parity
from exporter.architectures.families import Architecture
from exporter.architectures.rebuilding import rebuild
from exporter.checkpoint import read_checkpoint
from exporter.endings import Wanted, read_ending
from exporter.errors import CheckpointError, ConversionError, ParityError
from exporter.fronts.choosing import open_front
from exporter.fronts.images import ImageFront
from exporter.parity.pixels import PixelRow, compare_pixels
from exporter.recipe import Recipe
from exporter.workflow import TORCHSCRIPT
from runtime.artifact import open_artifact
from runtime.manifest import Classify, ImageInput, Manifest, Multilabel
from runtime.model import Model


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The report on the stages, and the prepared pixels step by step."""

    report: parity.Report
    pixels: tuple[PixelRow, ...]

    @property
    def passed(self) -> bool:
        """Whether every stage passed and every pixel is the transform's own."""
        return self.report.verdict == "passed" and not any(row.difference for row in self.pixels)


def check(
    path: str | Path,
    checkpoint: str | Path,
    *,
    architecture: Architecture | None = None,
    arguments: Mapping[str, Any] | None = None,
    preprocess: str | Callable[..., Any] | None = None,
    samples: str | Path | None = None,
    trust: bool = False,
    imports: Sequence[str | Path] = (),
) -> Checked:
    """Return how the artifact of an image network stands beside the eager model and the user's own transform.

    ``architecture`` and ``arguments`` are the manifest's unless given; ``preprocess`` as in the export. Every file's
    hash is compared first. Raises CheckpointError when ``checkpoint`` is not the exported one, ParityError where
    another transform was folded in, ConversionError for other kinds of input.
    """
    artifact = open_artifact(path)
    manifest = artifact.manifest
    for name in manifest.files:
        artifact.file(name)
    spec = manifest.inputs[0]
    if len(manifest.inputs) != 1 or not isinstance(spec, ImageInput):
        raise ConversionError(
            f"'{path}': takes no image: expected the artifact of an image network, got '{spec.kind}'. "
            "Export it again: the export checks every kind."
        )
    source = manifest.source
    found = read_checkpoint(
        checkpoint, weights=source.checkpoint_entry or None, trust=trust, imports=tuple(map(Path, imports))
    )
    if found.sha256 != source.checkpoint_sha256:
        raise CheckpointError(
            f"'{checkpoint}': not the checkpoint of '{manifest.name}': expected SHA-256 {source.checkpoint_sha256}, "
            f"got {found.sha256}. Name the file that was exported, or export this one."
        )
    network = rebuild(architecture or source.architecture, {**source.arguments, **(arguments or {})}, found)
    recipe = Recipe(
        checkpoint=Path(checkpoint),
        preprocess=preprocess,
        samples=Path(samples) if samples is not None else None,
        exif=spec.exif,
        image_mode=spec.mode if spec.mode != "bands" else f"{spec.dtype}[{spec.channels}]",
    )
    front = open_front(recipe, network)
    assert isinstance(front, ImageFront)
    if front.inputs != manifest.inputs:
        raise ParityError(
            f"'{manifest.name}': another transform was folded in: expected {_steps(spec)}, got {front.describe()}. "
            "Pass the one that it was exported with (--preprocess), or export it again."
        )
    cases = front.cases()
    reference = parity.Reference(network.network, front)
    prepared, values = reference.call(cases)
    ending = read_ending(values, _wanted(manifest), labels_file="", name=type(network.network).__name__)
    answers = reference.finish(cases, prepared, values, ending)
    batch = reference.answer(front.batch(cases), ending)
    torchscript = TORCHSCRIPT if TORCHSCRIPT in manifest.files else None
    with (
        Model(artifact, device="cpu") as model,
        front.open_paths(model, artifact.path, ending, torchscript=torchscript) as paths,
    ):
        report = parity.compare(paths, answers, batch, manifest)
    return Checked(report=report, pixels=tuple(compare_pixels(front.reading, front.pixels)))


def _wanted(manifest: Manifest) -> Wanted:
    task = manifest.task
    if isinstance(task, Multilabel):
        return Wanted(task="multilabel", thresholds=task.thresholds)
    if isinstance(task, Classify):
        return Wanted()
    raise ConversionError(
        f"'{manifest.name}': its task is '{task.kind}': expected classify or multilabel. "
        "Export it again: the export checks every task."
    )


def _steps(spec: ImageInput) -> str:
    steps = (*spec.preprocessing.geometry, *spec.preprocessing.arithmetic)
    return msgspec.json.encode(steps).decode()
