"""Comparison of two artifacts, part by part."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.artifact.diff.graphs import in_graphs
from runtime.artifact.diff.values import LISTED, PARTS, Difference, Part, builtins_of, show, values_of, words
from runtime.artifact.difference import largest_difference
from runtime.artifact.golden import GoldenCase, read_golden
from runtime.artifact.open import Artifact, artifact_errors, open_artifact
from runtime.evidence import FORMAT_VERSION as EVIDENCE_VERSION
from runtime.evidence import STAGES, Evidence
from runtime.manifest import LAYOUT, Calibration, Manifest, decode_document

FORMAT_VERSION = 1

# The parts that no result depends on.
_NO_EFFECT: frozenset[Part] = frozenset({"golden", "calibration", "parity", "source", "tools"})


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two artifacts and their differences, in the order of PARTS.

    ``results_may_differ`` is false where they differ only in parts that no result depends on, such as versions.
    """

    format_version: int = FORMAT_VERSION
    first: str
    second: str
    equal: bool
    results_may_differ: bool
    differences: tuple[Difference, ...]


def compare_artifacts(first: str | Path, second: str | Path) -> Comparison:
    """Return the differences between two artifact folders.

    The hash of every file is checked first. Raises ArtifactError for a folder that is no artifact, or a damaged one.
    """
    before, after = open_artifact(first), open_artifact(second)
    for artifact in (before, after):
        for name in artifact.manifest.files:
            artifact.file(name)
    with artifact_errors(second):
        differences = [
            *_in_manifest(before.manifest, after.manifest),
            *_in_labels(before.labels(), after.labels()),
            *in_graphs(before, after),
            *_in_files(before.manifest, after.manifest),
            *_in_golden(before, after),
            *_in_parity(before, after),
        ]
    differences.sort(key=lambda difference: PARTS.index(difference.part))
    return Comparison(
        first=str(first),
        second=str(second),
        equal=not differences,
        results_may_differ=any(difference.part not in _NO_EFFECT for difference in differences),
        differences=tuple(differences),
    )


def _in_manifest(first: Manifest, second: Manifest) -> Iterable[Difference]:
    if first.name != second.name:
        yield Difference(part="source", path="name", first=first.name, second=second.name)
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
    """Yield the differences of images' preprocessing, and remove it from the inputs."""
    removed = [[spec.pop("preprocessing", None) for spec in specs] for specs in (first, second)]
    for before, after in zip(*removed, strict=False):
        if before is None or after is None:
            continue
        for kind in ("geometry", "arithmetic"):
            yield from _steps(kind, before.pop(kind), after.pop(kind))
        yield from values_of("preprocessing", "prepared", before, after)


def _steps(kind: str, first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> Iterable[Difference]:
    """Yield the steps that only one has, and the differing fields of those that both have."""
    matcher = difflib.SequenceMatcher(None, [step["step"] for step in first], [step["step"] for step in second], False)
    for operation, start, end, second_start, second_end in matcher.get_opcodes():
        if operation == "equal":
            pairs = zip(first[start:end], second[second_start:second_end], strict=True)
            for number, (before, after) in enumerate(pairs, start=start + 1):
                path = f"{kind} step {number}, {words(before['step'])}"
                yield from values_of("preprocessing", path, before, after)
            continue
        for row in range(start, end):
            yield Difference(part="preprocessing", path=f"{kind} step {row + 1}", first=_step(first[row]), second="")
        for row in range(second_start, second_end):
            yield Difference(part="preprocessing", path=f"{kind} step {row + 1}", first="", second=_step(second[row]))


def _step(step: Mapping[str, Any]) -> str:
    fields = ", ".join(f"{words(key)} {show(value)}" for key, value in step.items() if key != "step")
    return f"{words(step['step'])}: {fields}"


def _in_labels(first: Sequence[str], second: Sequence[str]) -> Iterable[Difference]:
    if tuple(first) == tuple(second):
        return
    if len(first) != len(second):
        yield Difference(part="labels", path="number", first=str(len(first)), second=str(len(second)))
    both = min(len(first), len(second))
    rows = [row for row in range(both) if first[row] != second[row]]
    pattern = _pattern(first, second, rows)
    if pattern:
        yield Difference(part="labels", path=f"{len(rows)} of {both} differ", first="", second=pattern)
    elif len(rows) > LISTED:
        yield Difference(
            part="labels", path=f"{len(rows)} of {both} differ", first="", second="the first of them below"
        )
    for row in rows[: LISTED if not pattern else 2]:
        yield Difference(part="labels", path=f"class {row}", first=first[row], second=second[row])


def _pattern(first: Sequence[str], second: Sequence[str], rows: Sequence[int]) -> str:
    """Return in words a usual change of the names, such as a swap, a shift or another order; else nothing."""
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
            abs(len(first) - len(second)) <= 1 and all(before == after for before, after in overlap)
        ):
            return f"names are shifted by {shift:+d}"
    if sorted(first) == sorted(second):
        return "the same names, sorted" if list(second) == sorted(second) else "the same names in another order"
    return ""


def _in_files(first: Manifest, second: Manifest) -> Iterable[Difference]:
    """Yield the files that only one has, and the differing ones whose content nothing else compares."""
    compared = {LAYOUT.parity}
    for manifest in (first, second):
        compared.add(manifest.golden.file)
        for variant in manifest.variants:
            compared |= {*variant.graph_files(variant.model), variant.network}
        if manifest.labels is not None:
            compared.add(manifest.labels.file)
    for name in sorted({*first.files, *second.files}):
        before, after = first.files.get(name), second.files.get(name)
        if before is None or after is None or (before.sha256 != after.sha256 and name not in compared):
            sides = [f"SHA-256 {file.sha256[:8]}, {file.size_bytes} bytes" if file else "" for file in (before, after)]
            yield Difference(part="files", path=name, first=sides[0], second=sides[1])


def _in_golden(first: Artifact, second: Artifact) -> Iterable[Difference]:
    artifacts = (first, second)
    names = [artifact.manifest.golden.file for artifact in artifacts]
    digests = {artifact.manifest.files[name].sha256 for artifact, name in zip(artifacts, names, strict=True)}
    if len(digests) == 1:
        return
    before, after = (read_golden(artifact.file(name)).cases for artifact, name in zip(artifacts, names, strict=True))
    if len(before) != len(after):
        yield Difference(part="golden", path="inputs", first=str(len(before)), second=str(len(after)))
    for row, cases in enumerate(zip(before, after, strict=False)):
        yield from _in_cases(f"input {row}", *cases)


def _in_cases(path: str, first: GoldenCase, second: GoldenCase) -> Iterable[Difference]:
    if first.source != second.source:
        sizes = [f"{len(case.source)} bytes" for case in (first, second)]
        yield Difference(part="golden", path=f"{path}, source", first=sizes[0], second=sizes[1])
        # All the rest follows from it.
        return
    for kind in ("prepared", "outputs"):
        before, after = getattr(first, kind), getattr(second, kind)
        for name in dict.fromkeys((*before, *after)):
            texts = _in_arrays(before.get(name), after.get(name))
            if texts is not None:
                yield Difference(part="golden", path=f"{path}, {kind} '{name}'", first=texts[0], second=texts[1])


def _in_arrays(first: NDArray[Any] | None, second: NDArray[Any] | None) -> tuple[str, str] | None:
    """Return in words what the first and the second of two arrays have; None where they are equal."""
    if first is None or second is None or first.shape != second.shape or first.dtype != second.dtype:
        return _shape(first), _shape(second)
    if first.dtype.kind in "OU":
        return None if np.array_equal(first.astype(str), second.astype(str)) else ("", "other strings")
    difference = largest_difference(first, second)
    return ("", f"up to {difference:.2g} apart") if difference else None


def _in_parity(first: Artifact, second: Artifact) -> Iterable[Difference]:
    """Yield the worst figures by stage; those of the manifest where the evidence has another format."""
    before, after = _evidence(first), _evidence(second)
    if before is None or after is None:
        yield from values_of("parity", "", builtins_of(first.manifest.parity), builtins_of(second.manifest.parity))
        return
    for stage in STAGES:
        worst = [_worst(evidence, stage) for evidence in (before, after)]
        if worst[0] != worst[1]:
            yield Difference(part="parity", path=f"{stage}, worst", first=worst[0], second=worst[1])
    for field in ("verdict", "max_ratio", "batch_sizes"):
        values = [builtins_of(getattr(evidence, field)) for evidence in (before, after)]
        yield from values_of("parity", words(field), *values)


def _evidence(artifact: Artifact) -> Evidence | None:
    if LAYOUT.parity not in artifact.manifest.files:
        return None
    data = artifact.file(LAYOUT.parity).read_bytes()
    try:
        evidence = decode_document(data, Evidence)
    except msgspec.DecodeError:
        return None
    return evidence if evidence.format_version == EVIDENCE_VERSION else None


def _worst(evidence: Evidence, stage: str) -> str:
    ratios = [row.ratio for row in evidence.rows if row.stage == stage and row.ratio is not None]
    return f"{max(ratios):.2g} times the noise" if ratios else ""


def _calibration(calibration: Calibration | None) -> Any:
    return {} if calibration is None else builtins_of(calibration)


def _shape(array: NDArray[Any] | None) -> str:
    return "" if array is None else f"{array.dtype} {list(array.shape)}"
