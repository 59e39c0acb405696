"""Every path against the reference, stage by stage, and the verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np

from exporter.outputs.registry import open_reference
from exporter.parity.array_diff import ArrayDifference, DifferenceTally, Tolerance, measure_difference
from exporter.parity.cases import BATCH_SIZES, Arrays, ReferenceOutput, ServedPath, StageFunction
from exporter.parity.decisions import decide, expected_result, is_label_map
from exporter.parity.noise import MAX_RATIO, SIGNAL_OF_LIMIT, NoiseMeasurement, spread
from exporter.parity.paths import RUNTIME, arrays_of, inner_of, inputs_of
from runtime.evidence import STAGES, Evidence, Group, NearTie, Row, Stage, Verdict
from runtime.manifest import ImageInput, Manifest

BATCHES = "batches"

# How many inputs of a group the network alone is run on, where nothing is wrong from end to end.
_FEW = 2

# Neither the size that graphs are traced with, nor a multiple of it.
_OTHER_BATCH = 3

# Beyond this multiple of its limit, no other input's noise explains a difference. Measured: an untrained attention
# network moved by 240 times as much on an image of noise as on the photos that its limit was measured on.
_HOPELESS = 1000.0

# What is compared at each stage, for the finding.
_WHAT: Mapping[Stage, str] = {
    "decode": "the decoded input",
    "geometry": "prepared pixels",
    "tokens": "tokens",
    "arithmetic": "the network's input",
    "network": "the network's outputs for the same input",
    "activation": "scores for the same outputs of the network",
    "labels": "what the same scores mean",
    "end to end": "answers from the raw input",
}


@dataclass(frozen=True, kw_only=True)
class ParityInputs:
    """What a comparison rests on beside the paths: the reference's side.

    ``answers`` are the reference's for single cases of every size, ``batch`` those for cases that may share a batch, of
    which batches of the promised sizes are made. ``labels`` are the class names as the user gave them. ``remeasure``
    gives the noise on every input, for differences that are just beyond the limits of the few it was measured on.
    """

    manifest: Manifest
    answers: Sequence[ReferenceOutput]
    batch: Sequence[ReferenceOutput]
    measured: NoiseMeasurement
    remeasure: Callable[[], NoiseMeasurement] | None = None
    labels: Sequence[str]
    max_ratio: float = MAX_RATIO
    lengths: Mapping[str, tuple[int, ...]]
    not_compared: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, list[ReferenceOutput]]:
        """The answers by the origin of their inputs."""
        found: dict[str, list[ReferenceOutput]] = {}
        for answer in self.answers:
            found.setdefault(answer.case.group, []).append(answer)
        return found

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that the eager model itself takes."""
        return (1,) if self.measured.no_batch else BATCH_SIZES


def compare(paths: Sequence[ServedPath], asked: ParityInputs) -> Evidence:
    """Return the evidence on ``paths``: each stage given the reference's input to it, and end to end.

    Before a difference is called a fault, the noise is measured on the inputs at fault, too: one of them may be where
    the network amplifies most.
    """
    evidence = _compare(paths, asked)
    if asked.remeasure is None or not _may_be_noise(evidence):
        return evidence
    return _compare(paths, replace(asked, measured=asked.remeasure()))


def _may_be_noise(evidence: Evidence) -> bool:
    """Return whether all faults are values not far beyond their limits."""
    faults = [row for row in evidence.rows if not row.passed]
    return bool(faults) and all(
        row.fault == "value" and bool(row.limit) and (row.difference or 0.0) < _HOPELESS * (row.limit or 0.0)
        for row in faults
    )


def _compare(paths: Sequence[ServedPath], asked: ParityInputs) -> Evidence:
    rows: list[Row] = []
    ties: list[NearTie] = []
    seen: dict[tuple[StageFunction, bool], list[Row]] = {}
    for path in paths:
        whole = _end_to_end_rows(path, asked, ties, _batch_sizes(path, paths, asked))
        # Where nothing is wrong from end to end, a few inputs show that each stage is measured right.
        few = all(row.passed for row in whole)
        for stage, function in path.stages.items():
            if (function, few) not in seen:
                seen[function, few] = list(_stage_rows(path, stage, function, asked, few=few))
            rows += [msgspec.structs.replace(row, path=path.name, device=path.device) for row in seen[function, few]]
        rows += whole
    return judge(
        Evidence(
            artifact=asked.manifest.name,
            verdict="passed",
            reason="",
            first_fault=None,
            max_ratio=asked.max_ratio,
            noise=asked.measured.noise,
            groups=(
                *(
                    Group(name=name, inputs=tuple(answer.case.name for answer in answers))
                    for name, answers in asked.groups.items()
                ),
            ),
            batch_sizes=asked.batch_sizes,
            lengths=dict(asked.lengths),
            rows=tuple(rows),
            near_ties=tuple(ties),
            not_compared=(*asked.not_compared, *_batch_remark(asked), *_flat(asked)),
            tools=asked.manifest.tools,
        ),
        random=asked.measured.random,
    )


def judge(evidence: Evidence, *, random: str = "") -> Evidence:
    """Return the evidence with the verdict that its rows give; ``random`` is why nothing could be compared at all."""
    faults = [place for place, row in enumerate(evidence.rows) if not row.passed]
    first = min(faults, key=lambda place: (STAGES.index(evidence.rows[place].stage), place), default=None)
    verdict: Verdict = "passed"
    reason = ""
    if random:
        verdict, reason = "inconclusive", random
    elif first is not None:
        row = evidence.rows[first]
        on = f"{row.path} on {row.device}" if row.device != "cpu" else row.path
        verdict, reason = "failed", f"{on}, stage '{row.stage}', input '{row.worst_input}': {row.finding}"
    else:
        last = [noise for noise in evidence.noise if noise.stage == "end to end"]
        if not evidence.rows or all(noise.signal <= SIGNAL_OF_LIMIT * noise.limit for noise in last):
            verdict = "inconclusive"
            best = max(last, key=lambda noise: noise.signal)
            reason = (
                "the eager model gives every input the same scores: expected some output to vary by more than "
                f"{max(SIGNAL_OF_LIMIT * best.limit, 0.0):.1e}, got '{best.tensor}' by {best.signal:.1e}"
            )
    return msgspec.structs.replace(evidence, verdict=verdict, reason=reason, first_fault=first)


def _batch_sizes(path: ServedPath, paths: Sequence[ServedPath], asked: ParityInputs) -> Sequence[int]:
    """Return the sizes of batches to run: all of them where the artifact is served from, one of them elsewhere."""
    several = [size for size in asked.batch_sizes if size > 1]
    served = path.name == RUNTIME or all(one.name != RUNTIME for one in paths)
    return several if served else [size for size in several if size == _OTHER_BATCH]


def _stage_rows(
    path: ServedPath, stage: Stage, function: StageFunction, asked: ParityInputs, *, few: bool
) -> Sequence[Row]:
    ruler = _ruler(stage, asked)
    expect = _expectation(stage, asked)
    rows = []
    for group, answers in asked.groups.items():
        tally = DifferenceTally(ruler)
        for answer in spread(answers, _FEW if few and stage == "network" else len(answers)):
            tally.add(answer.case.name, partial(_measure, function, expect, ruler, answer))
        rows.append(tally.row(path.name, path.device, stage, group, _WHAT[stage]))
    return rows


def _measure(
    function: StageFunction, expect: Callable[[ReferenceOutput], Arrays], ruler: Tolerance, answer: ReferenceOutput
) -> ArrayDifference:
    return measure_difference(function(answer), expect(answer), ruler)


def _expectation(stage: Stage, asked: ParityInputs) -> Callable[[ReferenceOutput], Arrays]:
    """Return what the reference has after a stage."""
    by_stage: dict[Stage, Callable[[ReferenceOutput], Arrays]] = {
        "decode": lambda answer: answer.prepared.decoded,
        "geometry": arrays_of,
        "tokens": arrays_of,
        "arithmetic": inputs_of,
        "network": inner_of,
        "activation": lambda answer: answer.outputs,
        "labels": lambda answer: expected_result(answer.outputs, asked.manifest.task, asked.labels),
    }
    return by_stage[stage]


def _ruler(stage: Stage, asked: ParityInputs) -> Tolerance:
    image = isinstance(asked.manifest.inputs[0], ImageInput)
    interpreter = open_reference(asked.manifest.task, asked.labels)
    unit = {
        "decode": "gray levels" if image else "values",
        "geometry": "gray levels",
        "tokens": "token numbers",
        "arithmetic": "values",
        "network": interpreter.inner_unit,
        "labels": "labels",
    }.get(stage, interpreter.unit)
    if stage in ("decode", "geometry", "tokens", "labels"):
        return Tolerance(unit=unit)
    return asked.measured.ruler(stage, unit)


def _end_to_end_rows(
    path: ServedPath, asked: ParityInputs, ties: list[NearTie], batch_sizes: Sequence[int]
) -> Sequence[Row]:
    rows = []
    for group, answers in asked.groups.items():
        rows.append(_end_to_end(path, asked, group, [[answer] for answer in answers], ties))
    several = [asked.batch[:size] for size in batch_sizes]
    if several:
        rows.append(_end_to_end(path, asked, BATCHES, several, ties))
    return rows


def _end_to_end(
    path: ServedPath, asked: ParityInputs, group: str, batches: Sequence[Sequence[ReferenceOutput]], ties: list[NearTie]
) -> Row:
    ruler = asked.measured.ruler("end to end", _ruler("end to end", asked).unit)
    tally = DifferenceTally(ruler)
    agreements: list[float] = []
    top_k: list[float] = []
    for answers in batches:
        name = answers[0].case.name if group != BATCHES else f"batch of {len(answers)}"
        found: list[Arrays] = []

        def run(answers: Sequence[ReferenceOutput] = answers, found: list[Arrays] = found) -> ArrayDifference:
            found += path.run([answer.case for answer in answers])
            return _together([_outputs(one, answer, ruler, asked) for one, answer in zip(found, answers, strict=True)])

        tally.add(name, run)
        for one, answer in zip(found, answers, strict=False):
            if any(key not in one for key in answer.outputs):
                continue
            decision = decide(one, answer.outputs, asked.manifest, asked.labels)
            if decision is None:
                continue
            agreements.append(decision.agreement)
            top_k += [decision.top_k] if decision.top_k is not None else []
            if decision.margin is None:
                continue
            label = name if group != BATCHES else f"{name}, {answer.case.name}"
            if decision.margin > ruler.limit:
                tally.flip(
                    label, f"expected '{decision.expected}', by a margin of {decision.margin:.1e}, got '{decision.got}'"
                )
            else:
                ties.append(
                    NearTie(
                        path=path.name,
                        input=label,
                        expected=decision.expected,
                        got=decision.got,
                        margin=decision.margin,
                    )
                )
    return tally.row(
        path.name,
        path.device,
        "end to end",
        group,
        _WHAT["end to end"],
        label_agreement=float(np.mean(agreements)) if agreements else None,
        top_k_agreement=float(np.mean(top_k)) if top_k else None,
    )


def _outputs(found: Arrays, answer: ReferenceOutput, ruler: Tolerance, asked: ParityInputs) -> ArrayDifference:
    if is_label_map(found, answer.outputs, asked.manifest):
        # predict() gives maps, whose labels are what can be compared.
        return ArrayDifference(values=np.zeros(0), label_maps=1)
    return measure_difference(found, answer.outputs, ruler)


def _together(differences: Sequence[ArrayDifference]) -> ArrayDifference:
    broken = next((difference for difference in differences if difference.fault is not None), None)
    return broken or ArrayDifference(
        values=np.concatenate([difference.values for difference in differences]),
        label_maps=sum(difference.label_maps for difference in differences),
    )


def _batch_remark(asked: ParityInputs) -> tuple[str, ...]:
    if not asked.measured.no_batch:
        return ()
    return (f"batches of more than one input: the eager model itself takes none: {asked.measured.no_batch}",)


def _flat(asked: ParityInputs) -> tuple[str, ...]:
    """Return a sentence for each output of several that shows nothing."""
    last = [noise for noise in asked.measured.noise if noise.stage == "end to end"]
    if len(last) < 2:
        return ()
    return tuple(
        f"output '{noise.tensor}': it varies by {noise.signal:.1e} over the inputs, which shows nothing"
        for noise in last
        if noise.signal <= SIGNAL_OF_LIMIT * noise.limit
    )
