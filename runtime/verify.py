"""Is this artifact whole, and does this device give the eager model's answers? Needs no PyTorch."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.artifact import Artifact, open_artifact
from runtime.errors import ArtifactError
from runtime.golden import read_golden
from runtime.manifest import ImageInput, Task, Tokens
from runtime.model import Model
from runtime.results import until_end


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

    Every file is compared with its SHA-256 first; then the golden inputs are prepared and run, and compared with the
    user's own preprocessing and the eager model's outputs. Raises ArtifactError for a damaged file, DeviceError for a
    device that cannot run.
    """
    artifact = open_artifact(path)
    for name in artifact.manifest.files:
        artifact.file(name)
    return verify_model(artifact, Model(artifact, device=device), whole_path=True)


def verify_model(artifact: Artifact, model: Model, *, whole_path: bool) -> Verification:
    """Return how a loaded ``model`` answers the golden inputs; the graph from raw inputs on only if ``whole_path``."""
    manifest = artifact.manifest
    golden = read_golden(artifact.file(manifest.golden.file)).cases
    limits, task = manifest.golden, manifest.task

    with warnings.catch_warnings():
        # The golden set has photos that ask for a rotation on purpose: what is warned about elsewhere.
        warnings.simplefilter("ignore")
        decoded = [model.decode(case.source, subject=f"golden input {row}") for row, case in enumerate(golden)]
    prepared = [model.stack([model.prepare(one)]) for one in decoded]
    expected = [case.outputs for case in golden]
    unit = "grey levels" if isinstance(manifest.inputs[0], ImageInput) else "values"
    checks = [
        _check(
            "prepared",
            [
                _difference(one[name], case.prepared[name])
                for one, case in zip(prepared, golden, strict=True)
                for name in one
            ],
            limits.prepared_limit,
            unit,
        ),
        *_check_outputs("network", [model.run(case.prepared) for case in golden], expected, limits.output_limits, task),
        *_check_outputs("end to end", [model.run(one) for one in prepared], expected, limits.end_to_end_limits, task),
    ]
    variant = manifest.variants[0]
    if whole_path and model.device == "cpu" and variant.model != variant.network:
        whole = [model.run(model.whole(one)) for one in decoded]
        checks += _check_outputs(variant.model, whole, expected, limits.end_to_end_limits, task)
    return Verification(
        artifact=str(artifact.path),
        device=model.device,
        files=len(manifest.files),
        inputs=len(golden),
        checks=tuple(checks),
    )


def check_answers(artifact: Artifact, model: Model) -> None:
    """Raise ArtifactError unless a loaded ``model`` answers the golden inputs as the eager model does."""
    verification = verify_model(artifact, model, whole_path=False)
    if not verification.passed:
        worst = next(check for check in verification.checks if not check.passed)
        raise ArtifactError(
            f"'{artifact.path}': this device's answers are not the eager model's: expected '{worst.name}' within "
            f"{worst.limit:g} {worst.unit}, got {worst.worst:.2g}. Run 'truecopy verify' on it, and "
            "do not serve it here."
        )


def _check_outputs(
    name: str,
    actual: Sequence[Mapping[str, NDArray[Any]]],
    expected: Sequence[Mapping[str, NDArray[Any]]],
    limits: Mapping[str, float],
    task: Task,
) -> list[Check]:
    """Return one check an output; where there are several, each is named."""
    if isinstance(task, Tokens):
        actual = [{key: until_end(array[0], task.end_id)[np.newaxis] for key, array in one.items()} for one in actual]
    return [
        _check(
            f"{name}, {output}" if len(limits) > 1 else name,
            [_difference(one[output], other[output]) for one, other in zip(actual, expected, strict=True)],
            limit,
            "score",
        )
        for output, limit in limits.items()
    ]


def _check(name: str, differences: Sequence[float], limit: float, unit: str) -> Check:
    # A NaN compares false with any limit, and so fails; numpy's max keeps it.
    worst = float(np.max(differences))
    return Check(name=name, passed=worst <= limit, worst=worst, limit=limit, unit=unit)


def _difference(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference; infinite where shapes or strings differ. A NaN is equal to a NaN in its place."""
    if actual.shape != expected.shape:
        return math.inf
    if not actual.size:
        return 0.0
    if actual.dtype.kind in "OU":
        return 0.0 if np.array_equal(actual.astype(str), expected.astype(str)) else math.inf
    both = np.isnan(actual) & np.isnan(expected) if actual.dtype.kind == "f" and expected.dtype.kind == "f" else False
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    return float(np.max(np.where(both, 0.0, difference)))
