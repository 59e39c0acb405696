"""What two artifacts do not have in common, part by part, in words; needs no PyTorch and no onnx."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.artifact.diff.graphs import in_graphs
from runtime.artifact.diff.values import LISTED, PARTS, Difference, Part, builtins_of, largest, show, values_of, words
from runtime.artifact.golden import GoldenCase, read_golden
from runtime.artifact.open import Artifact, open_artifact
from runtime.evidence import FORMAT_VERSION as EVIDENCE_VERSION
from runtime.evidence import STAGES, Evidence
from runtime.manifest import Calibration

FORMAT_VERSION = 1

# The parts that two artifacts of equal answers may differ in.
_TOLD: frozenset[Part] = frozenset({"golden", "calibration", "parity", "source", "tools"})


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two artifacts and their differences, in the order of PARTS.

    ``answers_may_differ`` is false where they differ only in what no answer depends on, such as versions.
    """

    format_version: int = FORMAT_VERSION
    first: str
    second: str
    equal: bool
    answers_may_differ: bool
    differences: tuple[Difference, ...]


def compare_artifacts(first: str | Path, second: str | Path) -> Comparison:
    """Return the differences of two artifact folders, whose hashes are checked; raises ArtifactError."""
    one, other = open_artifact(first), open_artifact(second)
    for artifact in (one, other):
        for name in artifact.manifest.files:
            artifact.file(name)
    found = [
        *_in_manifest(one, other),
        *_in_labels(one.labels(), other.labels()),
        *in_graphs(one, other),
        *_in_files(one, other),
        *_in_golden(one, other),
        *_in_parity(one, other),
    ]
    found.sort(key=lambda difference: PARTS.index(difference.part))
    return Comparison(
        first=str(first),
        second=str(second),
        equal=not found,
        answers_may_differ=any(difference.part not in _TOLD for difference in found),
        differences=tuple(found),
    )


def _in_manifest(one: Artifact, other: Artifact) -> Iterable[Difference]:
    first, second = one.manifest, other.manifest
    if first.name != second.name:
        yield Difference(part="source", place="name", first=first.name, second=second.name)
    yield from values_of("task", "", builtins_of(first.task), builtins_of(second.task))
    before, after = ([builtins_of(spec) for spec in manifest.inputs] for manifest in (first, second))
    yield from _preprocessing(before, after)
    yield from values_of("inputs", "", before, after)
    yield from values_of("outputs", "", builtins_of(first.outputs), builtins_of(second.outputs))
    yield from values_of("graph", "variants", builtins_of(first.variants), builtins_of(second.variants))
    yield from values_of("calibration", "", _calibration(first.calibration), _calibration(second.calibration))
    yield from values_of("source", "", builtins_of(first.source), builtins_of(second.source))
    yield from values_of("tools", "", first.tools, second.tools)
    limits = [
        {key: value for key, value in builtins_of(manifest.golden).items() if key != "file"}
        for manifest in (first, second)
    ]
    yield from values_of("golden", "", *limits)


def _preprocessing(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> Iterable[Difference]:
    """Give the differences of images' preprocessing, and take it out of the inputs."""
    taken = [[spec.pop("preprocessing", None) for spec in specs] for specs in (first, second)]
    for one, other in zip(*taken, strict=False):
        if one is None or other is None:
            continue
        for kind in ("geometry", "arithmetic"):
            yield from _steps(kind, one.pop(kind), other.pop(kind))
        yield from values_of("preprocessing", "prepared", one, other)


def _steps(kind: str, first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> Iterable[Difference]:
    """Give the steps that only one has, and the fields of those that both have."""
    matcher = difflib.SequenceMatcher(None, [one["step"] for one in first], [one["step"] for one in second], False)
    for how, start, end, other_start, other_end in matcher.get_opcodes():
        if how == "equal":
            for one, other, row in zip(first[start:end], second[other_start:other_end], range(start, end), strict=True):
                place = f"{kind} step {row + 1}, {words(one['step'])}"
                yield from values_of("preprocessing", place, one, other)
            continue
        for row in range(start, end):
            yield Difference(part="preprocessing", place=f"{kind} step {row + 1}", first=_step(first[row]), second="")
        for row in range(other_start, other_end):
            yield Difference(part="preprocessing", place=f"{kind} step {row + 1}", first="", second=_step(second[row]))


def _step(step: Mapping[str, Any]) -> str:
    fields = ", ".join(f"{words(key)} {show(value)}" for key, value in step.items() if key != "step")
    return f"{words(step['step'])}: {fields}"


def _in_labels(first: Sequence[str], second: Sequence[str]) -> Iterable[Difference]:
    if tuple(first) == tuple(second):
        return
    if len(first) != len(second):
        yield Difference(part="labels", place="number", first=str(len(first)), second=str(len(second)))
    both = min(len(first), len(second))
    rows = [row for row in range(both) if first[row] != second[row]]
    pattern = _pattern(first, second, rows)
    if pattern:
        yield Difference(part="labels", place=f"{len(rows)} of {both} differ", first="", second=pattern)
    elif len(rows) > LISTED:
        yield Difference(
            part="labels", place=f"{len(rows)} of {both} differ", first="", second="the first of them below"
        )
    for row in rows[: LISTED if not pattern else 2]:
        yield Difference(part="labels", place=f"class {row}", first=first[row], second=second[row])


def _pattern(first: Sequence[str], second: Sequence[str], rows: Sequence[int]) -> str:
    """Return in words what was done to the names, where it is a thing that happens; else nothing."""
    if len(rows) == 2 and (first[rows[0]], first[rows[1]]) == (second[rows[1]], second[rows[0]]):
        return f"classes {rows[0]} and {rows[1]} are swapped"
    if len(first) < 3 or not rows:
        return ""
    for shift in (1, -1):
        moved = [*first[-shift:], *first[:-shift]]
        overlap = (
            zip(first[: len(second) - 1], second[1:], strict=False)
            if shift > 0
            else zip(first[1:], second, strict=False)
        )
        if list(second) == moved or (
            abs(len(first) - len(second)) <= 1 and all(one == other for one, other in overlap)
        ):
            return f"names are shifted by {shift:+d}"
    if sorted(first) == sorted(second):
        return "the same names, sorted" if list(second) == sorted(second) else "the same names in another order"
    return ""


def _in_files(one: Artifact, other: Artifact) -> Iterable[Difference]:
    """Give the files that only one has, and those whose bytes are all that can be compared."""
    first, second = one.manifest.files, other.manifest.files
    told = {one.manifest.golden.file, other.manifest.golden.file, "parity.json"}
    for manifest in (one.manifest, other.manifest):
        told |= {name for variant in manifest.variants for name in (variant.model, variant.network, variant.weights)}
        told |= {manifest.labels.file} if manifest.labels is not None else set()
    for name in sorted({*first, *second}):
        before, after = first.get(name), second.get(name)
        if before is None or after is None or (before.sha256 != after.sha256 and name not in told):
            sides = [f"SHA-256 {file.sha256[:8]}, {file.size_bytes} bytes" if file else "" for file in (before, after)]
            yield Difference(part="files", place=name, first=sides[0], second=sides[1])


def _in_golden(one: Artifact, other: Artifact) -> Iterable[Difference]:
    names = one.manifest.golden.file, other.manifest.golden.file
    if one.manifest.files[names[0]].sha256 == other.manifest.files[names[1]].sha256:
        return
    first, second = (read_golden(artifact.file(name)).cases for artifact, name in zip((one, other), names, strict=True))
    if len(first) != len(second):
        yield Difference(part="golden", place="inputs", first=str(len(first)), second=str(len(second)))
    for row, (before, after) in enumerate(zip(first, second, strict=False)):
        yield from _two_cases(f"input {row}", before, after)


def _two_cases(place: str, first: GoldenCase, second: GoldenCase) -> Iterable[Difference]:
    if first.source != second.source:
        sizes = [f"{len(case.source)} bytes" for case in (first, second)]
        yield Difference(part="golden", place=f"{place}, source", first=sizes[0], second=sizes[1])
        # All the rest follows from it.
        return
    for kind in ("prepared", "outputs"):
        before, after = getattr(first, kind), getattr(second, kind)
        for name in (*before, *(name for name in after if name not in before)):
            one, other = before.get(name), after.get(name)
            if one is None or other is None:
                shown = ["" if array is None else _shape(array) for array in (one, other)]
            elif one.shape != other.shape or one.dtype != other.dtype:
                shown = [_shape(one), _shape(other)]
            elif one.dtype.kind in "OU":
                if np.array_equal(one.astype(str), other.astype(str)):
                    continue
                shown = ["", "other strings"]
            elif largest(one, other):
                shown = ["", f"up to {largest(one, other):.2g} apart"]
            else:
                continue
            yield Difference(part="golden", place=f"{place}, {kind} '{name}'", first=shown[0], second=shown[1])


def _in_parity(one: Artifact, other: Artifact) -> Iterable[Difference]:
    """Give the worst figure of each stage; those of the manifest where the evidence is of another format."""
    first, second = _evidence(one), _evidence(other)
    if first is None or second is None:
        yield from values_of("parity", "", builtins_of(one.manifest.parity), builtins_of(other.manifest.parity))
        return
    for stage in STAGES:
        shown = [_worst(evidence, stage) for evidence in (first, second)]
        if shown[0] != shown[1]:
            yield Difference(part="parity", place=f"{stage}, worst", first=shown[0], second=shown[1])
    for field in ("verdict", "max_ratio", "batch_sizes"):
        before, after = getattr(first, field), getattr(second, field)
        yield from values_of("parity", words(field), builtins_of(before), builtins_of(after))


def _evidence(artifact: Artifact) -> Evidence | None:
    if "parity.json" not in artifact.manifest.files:
        return None
    data = artifact.file("parity.json").read_bytes()
    try:
        evidence = msgspec.json.decode(data, type=Evidence)
    except msgspec.DecodeError:
        return None
    return evidence if evidence.format_version == EVIDENCE_VERSION else None


def _worst(evidence: Evidence, stage: str) -> str:
    ratios = [row.ratio for row in evidence.rows if row.stage == stage and row.ratio is not None]
    return f"{max(ratios):.2g} times the noise" if ratios else ""


def _calibration(calibration: Calibration | None) -> Any:
    return {} if calibration is None else builtins_of(calibration)


def _shape(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
