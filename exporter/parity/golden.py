"""Golden set: the compared inputs that travel with the artifact, with eager's outputs for them."""

from collections.abc import Iterator, Sequence

import numpy as np

from exporter.outputs.registry import open_reference
from exporter.parity.cases import SAMPLES, Case, ReferenceOutput
from exporter.parity.noise import NoiseMeasurement
from exporter.parity.subject import EagerModel, ParityInputs
from runtime.artifact.golden import GoldenCase, GoldenSet
from runtime.artifact.proof import OTHER_MACHINES
from runtime.manifest import LAYOUT, Golden, Task
from runtime.verify import Check, GoldenComparison

# A golden set is evidence, not payload: a share of the artifact, or a fixed size beside small weights.
_SHARE = 0.02
_SMALL_BYTES = 2_000_000
_LIMIT_BYTES = 2_500_000
_MINIMUM, _MAXIMUM = 2, 32


def choose_golden(
    references: Sequence[ReferenceOutput], task: Task, labels: Sequence[str], *, weights: int
) -> GoldenSet:
    """Return the smallest inputs, as many as fit beside ``weights`` bytes, at most 32 of all sizes.

    Kinds of faults show on kinds of inputs, an empty cell or an odd height, and hardly ever on large ones alone.
    ``task`` and ``labels`` are the user's, for what the outputs mean.
    """
    limit = _LIMIT_BYTES if weights < _SMALL_BYTES else int(_SHARE * weights)
    by_size = sorted(range(len(references)), key=lambda index: (_size_bytes(references[index]), index))
    total = np.cumsum([_size_bytes(references[index]) for index in by_size])
    fitting = by_size[: max(_MINIMUM, int((total <= limit).sum()))]
    positions = np.linspace(0, len(fitting) - 1, min(len(fitting), _MAXIMUM)).round().astype(int)
    chosen = sorted(fitting[position] for position in positions)
    return GoldenSet(cases=tuple(_case(references[index], task, labels) for index in chosen))


def golden_limits(noise: NoiseMeasurement, *, prepared_limit: float, decoder_tolerance: float) -> Golden:
    """Return how far another machine may stray: some times as far as this one, and for what its decoder rounds.

    ``prepared_limit`` is for prepared inputs; ``decoder_tolerance`` is a share of an output's largest value.
    """
    limits = {name: OTHER_MACHINES * limit for name, limit in noise.limits().items()}
    return Golden(
        file=LAYOUT.golden,
        prepared_limit=prepared_limit,
        output_limits=limits,
        end_to_end_limits={
            name: max(limit, decoder_tolerance * noise.size(name)) if limit else 0.0 for name, limit in limits.items()
        },
    )


def check_golden(golden: Sequence[GoldenCase], eager: EagerModel, subject: ParityInputs) -> Iterator[Check]:
    """Yield the checks of an artifact's golden cases with what the eager model gives for their inputs now.

    What the runtime gives is compared with the same outputs elsewhere: nothing is run but the eager model, on inputs
    that are none of its cases. Raises ConversionError and PreprocessingError where it does not take one.
    """
    known = {reference.case.data: reference for reference in eager.references}
    others = [
        Case(name=f"golden input {row}", data=case.source, group=SAMPLES)
        for row, case in enumerate(golden)
        if case.source not in known
    ]
    if others:
        known |= {one.case.data: one for one in eager.reference.run(others).outputs(eager.postprocessing)}
    references = [known[case.source] for case in golden]
    comparison = GoldenComparison(subject.manifest, golden, subject.manifest.golden)
    yield from comparison.prepared([reference.prepared.arrays for reference in references])
    yield from comparison.end_to_end("end to end", [reference.outputs for reference in references])
    meaning = open_reference(subject.manifest.task, subject.labels)
    yield from comparison.labels(
        [
            meaning.expected_result(case.outputs, reference.prepared.parts)
            for case, reference in zip(golden, references, strict=True)
        ]
    )


def _case(reference: ReferenceOutput, task: Task, labels: Sequence[str]) -> GoldenCase:
    return GoldenCase(
        source=reference.case.data,
        prepared=reference.prepared.arrays,
        outputs=reference.outputs,
        labels=open_reference(task, labels).expected_result(reference.outputs, reference.prepared.parts),
    )


def _size_bytes(reference: ReferenceOutput) -> int:
    return len(reference.case.data) + sum(array.nbytes for array in reference.prepared.arrays.values())
