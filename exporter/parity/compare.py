"""Comparison of every path with the reference, stage by stage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, chain, pairwise
from typing import Any

import msgspec
import numpy as np

from exporter.checkpoint.memory import release_memory
from exporter.conversion.network_io import Arrays
from exporter.outputs.interpreter import Decision
from exporter.outputs.registry import open_reference
from exporter.parity.array_diff import ArrayDifference, DifferenceTally, RowKey, Tolerance, measure_difference
from exporter.parity.cases import OTHER_BATCH, ReferenceOutput, ServedPath, ServedStage, StageId
from exporter.parity.decisions import decide, is_label_map
from exporter.parity.noise import spread, varies
from exporter.parity.output_memory import OutputMemory
from exporter.parity.paths import REFERENCE_VALUES, RUNTIME
from exporter.parity.subject import ParityInputs
from exporter.parity.verdict import judge, logits_of
from exporter.progress import Advance, Count
from runtime.evidence import Evidence, Group, NearTie, Row, Stage
from runtime.manifest import ImageInput

BATCHES = "batches"

# Stages that no noise is allowed in: another measurement of it changes nothing about them.
_EXACT: frozenset[Stage] = frozenset({"decode", "geometry", "tokens", "labels"})

# The stages of a form whose inputs are photos, up to its network.
_BEFORE_NETWORK: tuple[Stage, ...] = ("geometry", "arithmetic")

# How many inputs of a group run alone through the network of a form whose results are right from end to end; through a
# whole form that is not the one served from, beside a batch, where its pixels are those of the reference for every
# input; and through the one served from, where every input is right in a batch. A fault of a network without branches
# shows on any input, and one that treats one input otherwise than several on any that runs alone.
_REPRESENTATIVES = 1

# Beyond this multiple of its limit, no other input's noise explains a difference. Measured: an untrained attention
# network moved by 240 times as much on an image of noise as on the photos that its limit was measured on.
_HOPELESS = 1000.0

# What is compared at each stage, for the finding.
_COMPARED: Mapping[Stage, str] = {
    "decode": "the decoded input",
    "geometry": "prepared pixels",
    "tokens": "tokens",
    "arithmetic": "the network's input",
    "network": "the network's outputs for the same input",
    "activation": "scores for the same outputs of the network",
    "labels": "what the same scores mean",
    "end to end": "results from the raw input",
}


def compare(paths: Sequence[ServedPath], subject: ParityInputs, *, advance: Advance | None = None) -> Evidence:
    """Return the evidence on ``paths``: each stage given the reference's input to it, and end to end.

    Before a difference is called a fault, the noise is measured on the inputs at fault as well: one of them may be
    where the network amplifies most. What the paths gave is then judged again, and not computed again. ``advance``
    hears how many inputs of all paths and stages are compared.
    """
    if any(path.branches for path in paths):
        subject = replace(subject, thorough=True)
    exact: dict[StageId, list[Row]] = {}
    with OutputMemory() as memory:
        paths = [memory.remember(path, without=_EXACT) for path in paths]
        evidence = _compare(paths, subject, exact, memory, advance)
        if not _may_be_noise(evidence):
            return evidence
        return _compare(paths, replace(subject, noise=subject.remeasure()), exact, memory, None)


def _may_be_noise(evidence: Evidence) -> bool:
    """Return whether all faults are values not far beyond their limits."""
    faults = [row for row in evidence.rows if not row.passed]
    return bool(faults) and all(
        row.fault == "value" and bool(row.limit) and (row.difference or 0.0) < _HOPELESS * (row.limit or 0.0)
        for row in faults
    )


def _compare(
    paths: Sequence[ServedPath],
    subject: ParityInputs,
    exact: dict[StageId, list[Row]],
    memory: OutputMemory,
    advance: Advance | None,
) -> Evidence:
    """Return the evidence; the rows of stages that have to be equal are in ``exact``, or are added to it."""
    rows: list[Row] = []
    ties: list[NearTie] = []
    compared: dict[tuple[StageId, bool], list[Row]] = {}
    counts = [_planned_of(path, paths, subject) for path in paths]
    count = Count(advance, sum(counts))
    for index, path in enumerate(_counted(path, count) for path in paths):
        count.skip_to(sum(counts[:index]))
        # One at a time: each form may hold the weights again, in a layout of its own.
        for other in paths:
            other.release()
        release_memory(subject.network)

        def rows_of(stage: ServedStage, *, few: bool, path: ServedPath = path) -> list[Row]:
            known = exact.get(stage.id) or compared.get((stage.id, few))
            of_stage = known or _stage_rows(path, stage, subject, few=few)
            compared[stage.id, few] = of_stage
            if stage.id.stage in _EXACT:
                exact[stage.id] = of_stage
            return [msgspec.structs.replace(row, path=path.name, device=path.device) for row in of_stage]

        most = None
        if "geometry" in path.stages and not (subject.thorough or _is_served(path, paths)):
            before = [rows_of(path.stages[name], few=True) for name in _BEFORE_NETWORK if name in path.stages]
            most = _REPRESENTATIVES if all(row.passed for row in chain(*before)) else None
        end_to_end = _end_to_end_rows(path, subject, ties, _batch_sizes(path, paths, subject), memory, most=most)
        # Where nothing is wrong from end to end, a few inputs show that each stage is measured right.
        few = all(row.passed for row in end_to_end)
        for stage in path.stages.values():
            rows += rows_of(stage, few=few)
        rows += end_to_end
    return judge(
        Evidence(
            artifact=subject.manifest.name,
            verdict="passed",
            reason="",
            first_fault=None,
            max_ratio=subject.max_ratio,
            noise=subject.noise.noise,
            groups=tuple(
                Group(name=name, inputs=tuple(reference.case.name for reference in references))
                for name, references in subject.groups.items()
            ),
            batch_sizes=subject.batch_sizes,
            lengths=dict(subject.lengths),
            rows=tuple(rows),
            near_ties=tuple(ties),
            not_proven=(
                *subject.not_proven,
                *_batches_not_compared(subject),
                *_sizes_not_compared(subject),
                *_constant_outputs(subject),
            ),
            fallbacks=subject.fallbacks,
            tools=subject.manifest.tools,
        ),
        random=subject.noise.random,
    )


def _planned_of(path: ServedPath, paths: Sequence[ServedPath], subject: ParityInputs) -> int:
    """Return how often a path and its stages are run at most."""
    singles = len(subject.references)
    return singles + len(_batch_sizes(path, paths, subject)) + singles * len(path.stages)


def _counted(path: ServedPath, count: Count) -> ServedPath:
    """Return the path, whose runs and those of its stages are counted."""

    def counting(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(inputs: Any) -> Any:
            count.next()
            return run(inputs)

        return counted

    stages = {stage: replace(served, run=counting(served.run)) for stage, served in path.stages.items()}
    return replace(path, run=counting(path.run), stages=stages)


def _batch_sizes(path: ServedPath, paths: Sequence[ServedPath], subject: ParityInputs) -> Sequence[int]:
    """Return the sizes of batches to run: all of them where the artifact is served from, one of them elsewhere."""
    sizes = [size for size in subject.batch_sizes if size > 1]
    return sizes if _is_served(path, paths) else [size for size in sizes if size == OTHER_BATCH]


def _is_served(path: ServedPath, paths: Sequence[ServedPath]) -> bool:
    """Return whether the artifact is served from a path."""
    return path.name == RUNTIME or all(other.name != RUNTIME for other in paths)


def _stage_rows(path: ServedPath, stage: ServedStage, subject: ParityInputs, *, few: bool) -> list[Row]:
    name = stage.id.stage
    tolerance = _tolerance(name, subject)
    expect = _expectation(name, subject)
    rows = []
    for group, references in subject.groups.items():
        tally = DifferenceTally(_row_key(path, name, group), tolerance)
        for reference in spread(references, _REPRESENTATIVES if few and name == "network" else len(references)):
            tally.add(reference.case.name, partial(_measure_stage, stage, expect, tolerance, reference))
        rows.append(tally.row())
    return rows


def _row_key(path: ServedPath, stage: Stage, group: str) -> RowKey:
    return RowKey(path=path.name, device=path.device, stage=stage, group=group, compared=_COMPARED[stage])


def _measure_stage(
    stage: ServedStage,
    expect: Callable[[ReferenceOutput], Arrays],
    tolerance: Tolerance,
    reference: ReferenceOutput,
) -> ArrayDifference:
    return measure_difference(stage.run(reference), expect(reference), tolerance)


def _expectation(stage: Stage, subject: ParityInputs) -> Callable[[ReferenceOutput], Arrays]:
    """Return what the reference has after a stage."""
    interpreter = open_reference(subject.manifest.task, subject.labels)
    by_stage: dict[Stage, Callable[[ReferenceOutput], Arrays]] = {
        "decode": REFERENCE_VALUES["decoded"],
        "geometry": REFERENCE_VALUES["prepared"],
        "tokens": REFERENCE_VALUES["prepared"],
        "arithmetic": REFERENCE_VALUES["network inputs"],
        "network": REFERENCE_VALUES["network outputs"],
        "activation": REFERENCE_VALUES["outputs"],
        "labels": lambda reference: interpreter.expected_result(reference.outputs, reference.prepared.parts),
    }
    return by_stage[stage]


def _tolerance(stage: Stage, subject: ParityInputs) -> Tolerance:
    image = all(isinstance(spec, ImageInput) for spec in subject.manifest.inputs)
    interpreter = open_reference(subject.manifest.task, subject.labels)
    unit = {
        "decode": "gray levels" if image else "values",
        "geometry": "gray levels",
        "tokens": "token numbers",
        "arithmetic": "values",
        "network": interpreter.inner_unit,
        "labels": "labels",
    }.get(stage, interpreter.unit)
    if stage in _EXACT:
        return Tolerance(unit=unit)
    return subject.noise.tolerance(stage, unit)


def _end_to_end_rows(
    path: ServedPath,
    subject: ParityInputs,
    ties: list[NearTie],
    batch_sizes: Sequence[int],
    memory: OutputMemory,
    *,
    most: int | None,
) -> list[Row]:
    """Return the rows of each group of inputs, or of ``most`` in each, and of batches.

    An input that a batch had is right as it was there, but for one of each group, which runs alone as well.
    """
    cases = subject.batch if path.name == RUNTIME else subject.decoded_batch
    ends = list(accumulate(batch_sizes, initial=0))
    batches = [[cases[row % len(cases)] for row in range(*rows)] for rows in pairwise(ends)]
    last: list[Row] = []
    batch_ties: list[NearTie] = []
    if batches:
        last.append(_end_to_end_row([path] * len(batches), subject, BATCHES, batches, batch_ties))
    passed = bool(last) and last[0].passed and not subject.thorough
    rest = memory.as_in_batches(path) if passed else path
    rows = []
    for group, references in subject.groups.items():
        chosen = spread(references, most or len(references))
        alone = {id(reference) for reference in spread(chosen, _REPRESENTATIVES)}
        ways = [path if id(reference) in alone else rest for reference in chosen]
        rows.append(_end_to_end_row(ways, subject, group, [[reference] for reference in chosen], ties))
    ties += batch_ties
    return rows + last


def _end_to_end_row(
    paths: Sequence[ServedPath],
    subject: ParityInputs,
    group: str,
    batches: Sequence[Sequence[ReferenceOutput]],
    ties: list[NearTie],
) -> Row:
    """Return the row of a group: of each batch by its own one of ``paths``, which are one path in several ways."""
    tolerance = _tolerance("end to end", subject)
    tally = DifferenceTally(_row_key(paths[0], "end to end", group), tolerance)
    decisions: list[Decision] = []
    for path, references in zip(paths, batches, strict=True):
        name = references[0].case.name if group != BATCHES else f"batch of {len(references)}"
        outputs: list[Arrays] = []
        tally.add(name, partial(_measure_batch, path, subject, tolerance, references, outputs))
        # A large batch holds the same cases over and over: their decisions count once.
        seen: set[int] = set()
        for arrays, reference in zip(outputs, references, strict=False):
            if id(reference) in seen:
                continue
            seen.add(id(reference))
            decision = _decide(arrays, reference, subject)
            if decision is None:
                continue
            decisions.append(decision)
            label = name if group != BATCHES else f"{name}, {reference.case.name}"
            _add_flip(tally, ties, decision, path=path.name, label=label, limit=tolerance.limit)
    top_k = [decision.top_k for decision in decisions if decision.top_k is not None]
    return tally.row(
        label_agreement=float(np.mean([decision.agreement for decision in decisions])) if decisions else None,
        top_k_agreement=float(np.mean(top_k)) if top_k else None,
    )


def _measure_batch(
    path: ServedPath,
    subject: ParityInputs,
    tolerance: Tolerance,
    references: Sequence[ReferenceOutput],
    outputs: list[Arrays],
) -> ArrayDifference:
    """Return the difference of a batch; what the path gave for each of its inputs is added to ``outputs``."""
    outputs += path.run([reference.case for reference in references])
    return _joined(
        [
            _measure_outputs(arrays, reference, tolerance, subject)
            for arrays, reference in zip(outputs, references, strict=True)
        ]
    )


def _add_flip(
    tally: DifferenceTally, ties: list[NearTie], decision: Decision, *, path: str, label: str, limit: float
) -> None:
    """Add another label to the row where eager was sure of its own, and to the near ties where it was not."""
    if decision.margin is None:
        return
    if decision.margin > limit:
        tally.flip(label, f"expected '{decision.expected}', by a margin of {decision.margin:.1e}, got '{decision.got}'")
    else:
        ties.append(
            NearTie(path=path, input=label, expected=decision.expected, got=decision.got, margin=decision.margin)
        )


def _decide(outputs: Arrays, reference: ReferenceOutput, subject: ParityInputs) -> Decision | None:
    """Return the decisions on one case; None where the arrays are not of a form that decides."""
    if any(key not in outputs for key in reference.outputs):
        return None
    return decide(outputs, reference.outputs, subject.manifest, subject.labels)


def _measure_outputs(
    outputs: Arrays, reference: ReferenceOutput, tolerance: Tolerance, subject: ParityInputs
) -> ArrayDifference:
    if is_label_map(outputs, reference.outputs, subject.manifest):
        # predict() gives maps, whose labels are what can be compared.
        return ArrayDifference(values=np.zeros(0), label_maps=1)
    return measure_difference(outputs, reference.outputs, tolerance)


def _joined(differences: Sequence[ArrayDifference]) -> ArrayDifference:
    faulty = next((difference for difference in differences if difference.fault is not None), None)
    return faulty or ArrayDifference(
        values=np.concatenate([difference.values for difference in differences]),
        label_maps=sum(difference.label_maps for difference in differences),
    )


def _batches_not_compared(subject: ParityInputs) -> tuple[str, ...]:
    if not subject.noise.no_batch:
        return ()
    return (f"batches of more than one input, which the runtime does not make either: {subject.noise.no_batch}",)


def _sizes_not_compared(subject: ParityInputs) -> tuple[str, ...]:
    """Return a sentence on larger sizes than were run; a length that the manifest limits may have been run whole."""
    limits = [limit for spec in subject.manifest.inputs if (limit := getattr(spec, "max_length", None)) is not None]
    largest = {name: max(lengths) for name, lengths in subject.lengths.items()}
    sizes = [f"'{name}' above {length}" for name, length in largest.items() if length not in limits]
    if not subject.noise.no_batch:
        sizes.append(f"batches of more than {max(subject.batch_sizes)}")
    return (f"larger sizes than were run: {', '.join(sizes)}",) if sizes else ()


def _constant_outputs(subject: ParityInputs) -> tuple[str, ...]:
    """Return a sentence for each output of several that hardly varies over the inputs, so that it proves nothing."""
    outputs = [noise for noise in subject.noise.noise if noise.stage == "end to end"]
    if len(outputs) < 2 and not logits_of(subject.noise.noise):
        return ()
    return tuple(
        f"output '{noise.tensor}': it varies by {noise.signal:.1e} over the inputs, which shows nothing"
        for noise in outputs
        if not varies(noise)
    )
