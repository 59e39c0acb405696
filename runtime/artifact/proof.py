"""Agreement of an artifact with its evidence: limits, golden inputs and files."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import msgspec
from numpy.typing import NDArray

from runtime.artifact.difference import largest_difference
from runtime.artifact.golden import GoldenCase
from runtime.artifact.open import Artifact
from runtime.errors import ArtifactError
from runtime.evidence import FORMAT_VERSION, Evidence, GoldenInput
from runtime.manifest import LAYOUT, Approximation, Golden, LengthRange, decode_document

# Golden outputs are run by other processors and other versions of onnxruntime: limits are this many times parity's.
OTHER_MACHINES = 4.0

# How much more scores may differ end to end, as a share of the largest, where another decoder rounds a pixel.
DECODER_TOLERANCE = 0.02

# A calibration's formula takes probabilities as float32 has rounded them; so does TorchScript, whose softmax rounds
# once more. How much a scale amplifies that is not in the export's noise floor.
FORMULA_LIMIT = 1e-4

# Limits are products of numbers that were rounded to decimals.
_ROUNDING = 1.000001


def golden_input(name: str, source: bytes) -> GoldenInput:
    """Return how the evidence identifies a golden input."""
    return GoldenInput(name=name, sha256=hashlib.sha256(source).hexdigest())


def read_evidence(artifact: Artifact) -> Evidence:
    """Return the evidence of an artifact. Raises ArtifactError where it is none, or of another format version."""
    try:
        evidence = decode_document(artifact.read(LAYOUT.parity), Evidence)
    except msgspec.DecodeError as error:
        raise _refusal(artifact, f"not the evidence of a parity check: {str(error).rstrip('.')}") from error
    if evidence.format_version != FORMAT_VERSION:
        raise _refusal(artifact, f"unsupported format: expected {FORMAT_VERSION}, got {evidence.format_version}")
    return evidence


def check_proof(artifact: Artifact, golden: Sequence[GoldenCase]) -> None:
    """Raise ArtifactError unless the artifact is compared as closely, and on as much, as its evidence says.

    The limits follow from the noise that was measured, all golden inputs are there, so is every file that was compared,
    and no size is promised that was not compared.
    """
    evidence = read_evidence(artifact)
    if not evidence.passed:
        raise _refusal(artifact, f"expected the verdict 'passed', got '{evidence.verdict}'")
    inputs = tuple(golden_input(entry.name, case.source) for entry, case in zip(evidence.golden, golden, strict=False))
    if not evidence.golden or len(golden) != len(evidence.golden) or inputs != evidence.golden:
        raise ArtifactError(
            f"'{artifact.path / artifact.manifest.golden.file}': not the golden inputs of the parity check: expected "
            f"the {len(evidence.golden)} that '{LAYOUT.parity}' names, got {len(golden)}, or others. Export again."
        )
    missing = sorted({row.path for row in evidence.rows if _is_file(row.path)} - artifact.manifest.files.keys())
    if missing:
        raise _refusal(artifact, f"'{missing[0]}' was compared, and the manifest does not list it")
    for problem in _wide_limits(
        artifact.manifest.golden, evidence, calibrated=artifact.manifest.calibration is not None
    ):
        raise _refusal(artifact, problem)
    for problem in _wide_ranges(artifact.manifest.compared, evidence.compared()):
        raise _refusal(artifact, problem)


def check_measured_limits(
    artifact: Artifact,
    approximation: Approximation,
    *,
    eager: Sequence[Mapping[str, NDArray[Any]]],
    own: Sequence[Mapping[str, NDArray[Any]]],
) -> None:
    """Raise ArtifactError where a variant's limits are wider than what was measured of it can give.

    ``eager`` and ``own`` are the eager model's outputs and the variant's for the golden inputs. Two ways to compute a
    variant differ by no more than both do from fp32.
    """
    golden = artifact.manifest.golden
    widest = {}
    for name, least in golden.output_limits.items():
        differences = [largest_difference(mine[name], theirs[name]) for mine, theirs in zip(own, eager, strict=True)]
        difference = max(approximation.agreement.score_difference, *differences)
        widest[name] = max(least, 2 * OTHER_MACHINES * difference if math.isfinite(difference) else 0.0)
    widest_end_to_end = {name: limit + 2 * golden.end_to_end_limits[name] for name, limit in widest.items()}
    for kind, limits, allowed in (
        ("output_limits", approximation.golden.output_limits, widest),
        ("end_to_end_limits", approximation.golden.end_to_end_limits, widest_end_to_end),
    ):
        for problem in _beyond(kind, limits, allowed):
            raise ArtifactError(
                f"'{artifact.path / LAYOUT.manifest}': does not prove '{approximation.golden.file}': {problem}. Do not "
                "use this variant; run 'truecopy quantize' again."
            )


def _wide_ranges(promised: Mapping[str, LengthRange], compared: Mapping[str, LengthRange]) -> Iterator[str]:
    """Yield a problem for each dimension whose promised sizes are not those that were compared."""
    for name in compared:
        if name not in promised:
            yield f"sizes of '{name[:80]}' were compared, and the manifest does not list them"
        elif promised[name].lowest < compared[name].lowest or promised[name].highest > compared[name].highest:
            known, wide = compared[name], promised[name]
            yield (
                f"'{name[:80]}' was compared from {known.lowest} to {known.highest}, and the manifest promises "
                f"{wide.lowest} to {wide.highest}"
            )


def _wide_limits(golden: Golden, evidence: Evidence, *, calibrated: bool) -> Iterator[str]:
    """Yield a problem for each limit that is wider than the noise which the evidence has measured."""
    noise = {entry.tensor: entry for entry in evidence.noise if entry.stage == "end to end"}
    least = FORMULA_LIMIT if calibrated else 0.0
    widest = {name: max(OTHER_MACHINES * entry.limit, least) for name, entry in noise.items()}
    widest_end_to_end = {
        name: max(limit, DECODER_TOLERANCE * noise[name].size) if limit else 0.0 for name, limit in widest.items()
    }
    for kind, limits, allowed in (
        ("output_limits", golden.output_limits, widest),
        ("end_to_end_limits", golden.end_to_end_limits, widest_end_to_end),
    ):
        yield from _beyond(kind, limits, allowed)


def _beyond(kind: str, limits: Mapping[str, float], allowed: Mapping[str, float]) -> Iterator[str]:
    for name, limit in limits.items():
        if name not in allowed:
            yield f"no noise was measured for the output '{name[:80]}'"
        elif not limit <= _ROUNDING * allowed[name]:
            yield f"{kind} of '{name[:80]}' is too wide: expected at most {allowed[name]:.3g}, got {limit:.3g}"


def _is_file(path: str) -> bool:
    """Return whether a path through the artifact is a file of it, and not the runtime itself."""
    return bool(PurePath(path).suffix)


def _refusal(artifact: Artifact, problem: str) -> ArtifactError:
    return ArtifactError(
        f"'{artifact.path / LAYOUT.parity}': does not prove this artifact: {problem}. Export the model again."
    )
