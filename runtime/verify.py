"""Is this artifact whole, and does this device give the eager model's answers? Needs no PyTorch."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.artifact import Artifact, open_artifact
from runtime.decode.images import decode_image
from runtime.golden import read_golden
from runtime.model import PIXELS, Model


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison: the worst figure found, and the limit that the exporter proved."""

    name: str
    passed: bool
    worst: float
    limit: float
    unit: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on an artifact on one device."""

    artifact: str
    device: str
    files: int
    inputs: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def verify(path: str | Path, *, device: str = "auto") -> Verification:
    """Return how the artifact in folder ``path`` does on ``device``.

    Every file is compared with its SHA-256 first; then the golden images are prepared and run, and compared with the
    eager model's pixels and scores. Raises ArtifactError for a damaged file, DeviceError for a device that cannot run.
    """
    artifact = open_artifact(path)
    for name in artifact.manifest.files:
        artifact.file(name)
    return verify_model(artifact, Model(artifact, device=device), whole_path=True)


def verify_model(artifact: Artifact, model: Model, *, whole_path: bool) -> Verification:
    """Return how a loaded ``model`` answers the golden inputs; the graph from raw images on only if ``whole_path``."""
    manifest = artifact.manifest
    golden = read_golden(artifact.file(manifest.golden.file))
    output = manifest.outputs[0].name

    decoded = [
        decode_image(image, manifest.inputs[0], subject=f"golden image {row}")
        for row, image in enumerate(golden.images)
    ]
    prepared = np.stack([model.prepare(image) for image in decoded])
    network = model.run({PIXELS: golden.pixels})[output]
    served = model.run({PIXELS: prepared})[output]
    checks = [
        _check("pixels", prepared, golden.pixels, manifest.golden.pixel_limit, "grey levels"),
        _check("network", network, golden.scores, manifest.golden.score_limit, "probability"),
        _check("end to end", served, golden.scores, manifest.golden.end_to_end_limit, "probability"),
    ]
    if whole_path and model.device == "cpu":
        spec = manifest.inputs[0]
        images = [np.asarray(decode_image(image, spec, subject="golden image").image) for image in golden.images]
        whole = np.concatenate([model.run({spec.name: image[np.newaxis]})[output] for image in images])
        limit = manifest.golden.end_to_end_limit
        checks.append(_check(manifest.variants[0].model, whole, golden.scores, limit, "probability"))
    return Verification(
        artifact=str(artifact.path),
        device=model.device,
        files=len(manifest.files),
        inputs=len(golden.images),
        checks=tuple(checks),
    )


def _check(name: str, actual: NDArray[Any], expected: NDArray[Any], limit: float, unit: str) -> Check:
    worst = float(np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max())
    # A NaN compares false with any limit, and so fails.
    return Check(name=name, passed=worst <= limit, worst=worst, limit=limit, unit=unit)
