"""What two artifacts do not have in common, part by part, in words; needs no PyTorch and no onnx."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.artifact import Artifact, open_artifact
from runtime.evidence import FORMAT_VERSION as EVIDENCE_VERSION
from runtime.evidence import STAGES, Evidence
from runtime.golden import GoldenCase, read_golden
from runtime.manifest import Calibration
from runtime.onnx_files import Graph, Node, Tensor, describe, read_graph

FORMAT_VERSION = 1

Part: TypeAlias = Literal[
    "task",
    "inputs",
    "preprocessing",
    "outputs",
    "labels",
    "weights",
    "graph",
    "files",
    "golden",
    "calibration",
    "parity",
    "source",
    "tools",
]

# In the order of a report: what answers depend on first.
PARTS: tuple[Part, ...] = Part.__args__  # type: ignore[attr-defined]

# The parts that two artifacts of equal answers may differ in.
_TOLD: frozenset[Part] = frozenset({"golden", "calibration", "parity", "source", "tools"})

# Differences of one kind that are listed one by one; beyond them, they are counted.
_LISTED = 10


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs: where, and what each of the two has; empty where one has nothing."""

    part: Part
    place: str
    first: str
    second: str


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
        *_in_graphs(one, other),
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
    yield from _values("task", "", _builtins(first.task), _builtins(second.task))
    before, after = ([_builtins(spec) for spec in manifest.inputs] for manifest in (first, second))
    yield from _preprocessing(before, after)
    yield from _values("inputs", "", before, after)
    yield from _values("outputs", "", _builtins(first.outputs), _builtins(second.outputs))
    yield from _values("graph", "variants", _builtins(first.variants), _builtins(second.variants))
    yield from _values("calibration", "", _calibration(first.calibration), _calibration(second.calibration))
    yield from _values("source", "", _builtins(first.source), _builtins(second.source))
    yield from _values("tools", "", first.tools, second.tools)
    limits = [
        {key: value for key, value in _builtins(manifest.golden).items() if key != "file"}
        for manifest in (first, second)
    ]
    yield from _values("golden", "", *limits)


def _preprocessing(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> Iterable[Difference]:
    """Give the differences of images' preprocessing, and take it out of the inputs."""
    taken = [[spec.pop("preprocessing", None) for spec in specs] for specs in (first, second)]
    for one, other in zip(*taken, strict=False):
        if one is None or other is None:
            continue
        for kind in ("geometry", "arithmetic"):
            yield from _steps(kind, one.pop(kind), other.pop(kind))
        yield from _values("preprocessing", "prepared", one, other)


def _steps(kind: str, first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> Iterable[Difference]:
    """Give the steps that only one has, and the fields of those that both have."""
    matcher = difflib.SequenceMatcher(None, [one["step"] for one in first], [one["step"] for one in second], False)
    for how, start, end, other_start, other_end in matcher.get_opcodes():
        if how == "equal":
            for one, other, row in zip(first[start:end], second[other_start:other_end], range(start, end), strict=True):
                place = f"{kind} step {row + 1}, {_words(one['step'])}"
                yield from _values("preprocessing", place, one, other)
            continue
        for row in range(start, end):
            yield Difference(part="preprocessing", place=f"{kind} step {row + 1}", first=_step(first[row]), second="")
        for row in range(other_start, other_end):
            yield Difference(part="preprocessing", place=f"{kind} step {row + 1}", first="", second=_step(second[row]))


def _step(step: Mapping[str, Any]) -> str:
    fields = ", ".join(f"{_words(key)} {_show(value)}" for key, value in step.items() if key != "step")
    return f"{_words(step['step'])}: {fields}"


def _values(part: Part, place: str, first: Any, second: Any) -> Iterable[Difference]:
    """Give the innermost fields that differ; ``place`` says in words where they are."""
    if first == second:
        return
    if isinstance(first, dict) and isinstance(second, dict):
        for key in (*first, *(key for key in second if key not in first)):
            inner = f"{place}, {_words(key)}" if place else _words(key)
            yield from _values(part, inner, first.get(key), second.get(key))
    elif _is_structured(first) and _is_structured(second) and len(first) == len(second):
        for row, (one, other) in enumerate(zip(first, second, strict=True), start=1):
            yield from _values(part, f"{place} {row}".strip(), one, other)
    else:
        yield Difference(part=part, place=place, first=_show(first), second=_show(second))


def _is_structured(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)


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
    elif len(rows) > _LISTED:
        yield Difference(
            part="labels", place=f"{len(rows)} of {both} differ", first="", second="the first of them below"
        )
    for row in rows[: _LISTED if not pattern else 2]:
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


def _in_graphs(one: Artifact, other: Artifact) -> Iterable[Difference]:
    """Give the tensors and nodes that differ, of graphs of the same use; what two graphs share is told once."""
    seen: set[tuple[str, str, str]] = set()
    for before, after in zip(one.manifest.variants, other.manifest.variants, strict=False):
        for use in dict.fromkeys(("network", "model")):
            names = [getattr(variant, use) for variant in (before, after)]
            digests = [artifact.manifest.files[name].sha256 for artifact, name in zip((one, other), names, strict=True)]
            weights = [
                artifact.manifest.files[variant.weights].sha256 for artifact, variant in ((one, before), (other, after))
            ]
            if digests[0] == digests[1] and weights[0] == weights[1]:
                continue
            first, second = (
                read_graph(artifact.file(getattr(variant, use)), artifact.file(variant.weights))
                for artifact, variant in ((one, before), (other, after))
            )
            found = [*_in_tensors(first, second), *_in_nodes(names[0], first, second)]
            if not found and digests[0] != digests[1]:
                found = [
                    Difference(
                        part="files",
                        place=f"{names[0]}: the same tensors and nodes in other bytes",
                        first=digests[0][:8],
                        second=digests[1][:8],
                    )
                ]
            for difference in found:
                key = (difference.place, difference.first, difference.second)
                if key not in seen:
                    seen.add(key)
                    yield difference


def _in_tensors(first: Graph, second: Graph) -> Iterable[Difference]:
    missing = {name: tensor for name, tensor in first.tensors.items() if name not in second.tensors}
    added = {name: tensor for name, tensor in second.tensors.items() if name not in first.tensors}
    # Exporters name tensors as they like: the same values under another name are no other weights.
    for name, tensor in list(missing.items()):
        twin = next((key for key, value in added.items() if value.digest == tensor.digest), None)
        if twin is not None:
            del missing[name], added[twin]
    changed = [
        (tensor, second.tensors[name])
        for name, tensor in first.tensors.items()
        if name in second.tensors and second.tensors[name].digest != tensor.digest
    ]
    total = len(first.tensors)
    for place, before, after in (
        *((f"tensor '{one.name}'", *_two_tensors(one, other)) for one, other in changed[:_LISTED]),
        *((f"tensor '{name}'", describe(tensor), "") for name, tensor in list(missing.items())[:_LISTED]),
        *((f"tensor '{name}'", "", describe(tensor)) for name, tensor in list(added.items())[:_LISTED]),
    ):
        yield Difference(part="weights", place=place, first=before, second=after)
    rest = sum(max(0, len(group) - _LISTED) for group in (changed, missing, added))
    if rest:
        yield Difference(part="weights", place=f"{rest} more of {total} tensors", first="", second="differ, too")


def _two_tensors(first: Tensor, second: Tensor) -> tuple[str, str]:
    one, other = first.array(), second.array()
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype or one.size <= 8:
        return describe(first), describe(second)
    unequal = one != other
    if one.dtype.kind == "f":
        unequal &= ~(np.isnan(one) & np.isnan(other))
    largest = _largest(one, other)
    return describe(first), f"{int(unequal.sum())} of {one.size} values differ, by up to {largest:.2g}"


def _largest(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the largest difference; infinite where one is NaN and the other not."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(one.astype(np.float64) - other.astype(np.float64))
    alike = (one == other) | (np.isnan(one) & np.isnan(other)) if one.dtype.kind == "f" else one == other
    return float(np.where(alike, 0.0, np.where(np.isnan(difference), np.inf, difference)).max())


def _in_nodes(file: str, first: Graph, second: Graph) -> Iterable[Difference]:
    """Give the operators that one has more of, else the first node that is another."""
    counts = Counter(node.operator for node in first.nodes), Counter(node.operator for node in second.nodes)
    if counts[0] != counts[1]:
        for operator in sorted({*counts[0], *counts[1]}):
            before, after = counts[0][operator], counts[1][operator]
            if before != after:
                place = f"{file}, {operator} nodes"
                yield Difference(part="graph", place=place, first=str(before), second=str(after))
        return
    differing = [
        (one, other) for one, other in zip(first.nodes, second.nodes, strict=True) if _work(one) != _work(other)
    ]
    for one, other in differing[:_LISTED]:
        place = f"{file}, {one.operator} '{one.name}'"
        if one.operator != other.operator:
            yield Difference(part="graph", place=place, first=one.operator, second=other.operator)
        elif one.attributes != other.attributes:
            yield from _values("graph", place, one.attributes, other.attributes)
        else:
            yield Difference(
                part="graph", place=f"{place}, inputs", first=_show(one.inputs), second=_show(other.inputs)
            )
    if len(differing) > _LISTED:
        rest = len(differing) - _LISTED
        yield Difference(part="graph", place=f"{file}, {rest} more nodes", first="", second="differ, too")


def _work(node: Node) -> tuple[str, dict[str, str], tuple[str, ...]]:
    return node.operator, node.attributes, node.inputs


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
            elif _largest(one, other):
                shown = ["", f"up to {_largest(one, other):.2g} apart"]
            else:
                continue
            yield Difference(part="golden", place=f"{place}, {kind} '{name}'", first=shown[0], second=shown[1])


def _in_parity(one: Artifact, other: Artifact) -> Iterable[Difference]:
    """Give the worst figure of each stage; those of the manifest where the evidence is of another format."""
    first, second = _evidence(one), _evidence(other)
    if first is None or second is None:
        yield from _values("parity", "", _builtins(one.manifest.parity), _builtins(other.manifest.parity))
        return
    for stage in STAGES:
        shown = [_worst(evidence, stage) for evidence in (first, second)]
        if shown[0] != shown[1]:
            yield Difference(part="parity", place=f"{stage}, worst", first=shown[0], second=shown[1])
    for field in ("verdict", "max_ratio", "batch_sizes"):
        before, after = getattr(first, field), getattr(second, field)
        yield from _values("parity", _words(field), _builtins(before), _builtins(after))


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
    return {} if calibration is None else _builtins(calibration)


def _builtins(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _show(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.9g}"
        case list() | tuple():
            return f"[{', '.join(_show(one) for one in value)}]"
        case dict():
            return ", ".join(f"{_words(key)} {_show(one)}" for key, one in value.items())
    return str(value)


def _shape(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _words(name: str) -> str:
    return name.replace("_", " ")
