"""Is this artifact whole, and does this device give the eager model's answers? Needs no PyTorch."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.artifact.golden import GoldenCase, read_golden
from runtime.artifact.open import Artifact, open_artifact
from runtime.errors import ArtifactError
from runtime.manifest import Golden, ImageInput, Task
from runtime.model import Model
from runtime.outputs.registry import open_interpreter
from runtime.results import result_to_arrays, split

# How files begin whose decoding may be rounded: JPEG, WebP.
_LOSSY = (b"\xff\xd8", b"RIFF")


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
    unit = "gray levels" if isinstance(manifest.inputs[0], ImageInput) else "values"
    checks = [
        *_check_prepared(prepared, golden, limits.prepared_limit, unit),
        *_check_outputs("network", [model.run(case.prepared) for case in golden], expected, limits.output_limits, task),
        *_check_ways("end to end", [model.run(one) for one in prepared], golden, limits, task),
    ]
    if len(golden) > 1:
        together = _together(model, [model.prepare(one) for one in decoded])
        checks += _check_ways("in a batch", together, golden, limits, task)
    checks += _check_labels(model, golden)
    variant = manifest.variants[0]
    if whole_path and model.device == "cpu" and variant.model != variant.network:
        whole = [model.run(model.whole(one)) for one in decoded]
        checks += _check_ways(variant.model, whole, golden, limits, task)
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


def _check_prepared(
    prepared: Sequence[Mapping[str, NDArray[Any]]], golden: Sequence[GoldenCase], limit: float, unit: str
) -> list[Check]:
    """Return the checks of what the host prepares: ``limit`` is for decoders that may round otherwise elsewhere.

    Only lossy formats leave a decoder that freedom: pixels of all others are equal on every machine.
    """
    checks = []
    for name, kind, allowed in (("prepared", False, 0.0), ("prepared, of lossy formats", True, limit)):
        differences = [
            _difference(one[key], case.prepared[key])
            for one, case in zip(prepared, golden, strict=True)
            for key in one
            if case.source.startswith(_LOSSY) == kind
        ]
        if differences:
            checks.append(_check(name, differences, allowed, unit))
    return checks


def _check_ways(
    name: str, actual: Sequence[Mapping[str, NDArray[Any]]], golden: Sequence[GoldenCase], limits: Golden, task: Task
) -> list[Check]:
    """Return the checks of outputs from the encoded input on; what a decoder may round is allowed to lossy formats."""
    checks = []
    for kind, words, allowed in (
        (False, name, limits.output_limits),
        (True, f"{name}, of lossy formats", limits.end_to_end_limits),
    ):
        rows = [row for row, case in enumerate(golden) if case.source.startswith(_LOSSY) == kind]
        if rows:
            outputs = [golden[row].outputs for row in rows]
            checks += _check_outputs(words, [actual[row] for row in rows], outputs, allowed, task)
    return checks


def _together(model: Model, prepared: Sequence[Any]) -> list[dict[str, NDArray[Any]]]:
    """Return the outputs for inputs that share batches where they may, as those of batches of one.

    Alone, no input is padded, and none has neighbours that its answer could depend on.
    """
    batched = {output.name for output in model.manifest.outputs if output.batched}
    buckets: dict[Any, list[int]] = {}
    for place, one in enumerate(prepared):
        buckets.setdefault(model.bucket(one), []).append(place)
    found: list[dict[str, NDArray[Any]]] = [{} for _ in prepared]
    for places in buckets.values():
        # One alone in its bucket is its own neighbour.
        shared = places if len(places) > 1 else places * 2
        outputs = model.run(model.stack([prepared[place] for place in shared]))
        for row, place in enumerate(places):
            found[place] = {name: array[row : row + 1] if name in batched else array for name, array in outputs.items()}
    return found


def _check_labels(model: Model, golden: Sequence[GoldenCase]) -> list[Check]:
    """Return the check of what the runtime makes of eager's outputs: labels, thresholds, names; none in older sets.

    It depends on no device, so that all has to be equal.
    """
    batched = frozenset(output.name for output in model.manifest.outputs if output.batched)
    known = [case for case in golden if case.labels]
    wrong = 0
    for case in known:
        (entry,) = split(model.manifest.task, case.outputs, batched=batched, count=1)
        labels = result_to_arrays(model.interpret(entry, name=""))
        equal = labels.keys() == case.labels.keys() and all(
            _difference(labels[name], array) == 0.0 for name, array in case.labels.items()
        )
        wrong += not equal
    return [Check(name="labels", passed=not wrong, worst=wrong, limit=0.0, unit="inputs")] if known else []


def _check_outputs(
    name: str,
    actual: Sequence[Mapping[str, NDArray[Any]]],
    expected: Sequence[Mapping[str, NDArray[Any]]],
    limits: Mapping[str, float],
    task: Task,
) -> list[Check]:
    """Return one check an output; where there are several, each is named."""
    trim = open_interpreter(task).trim
    actual = [trim(outputs) for outputs in actual]
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
