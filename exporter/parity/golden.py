"""Which of the compared inputs travel with the artifact, with eager's answers to them."""

from collections.abc import Sequence

import numpy as np

from exporter.parity import ReferenceOutput
from exporter.parity.decisions import expected_result
from runtime.artifact.golden import GoldenCase, GoldenSet
from runtime.manifest import Task

# A golden set is evidence, not payload: a share of what the artifact weighs. Of a small one nobody minds its size.
_SHARE = 0.02
_SMALL_BYTES = 2_000_000
_ROOM_BYTES = 2_500_000
_MINIMUM, _MAXIMUM = 2, 32


def choose_golden(answers: Sequence[ReferenceOutput], task: Task, labels: Sequence[str], *, weights: int) -> GoldenSet:
    """Return the smallest inputs, as many as there is room for beside ``weights`` bytes, at most 32 of all sizes.

    Kinds of faults show on kinds of inputs, an empty cell or an odd height, and hardly ever on large ones alone.
    ``task`` and ``labels`` are the user's, for what the outputs mean.
    """
    room = _ROOM_BYTES if weights < _SMALL_BYTES else int(_SHARE * weights)
    by_size = sorted(range(len(answers)), key=lambda row: (_size(answers[row]), row))
    total = np.cumsum([_size(answers[row]) for row in by_size])
    fitting = by_size[: max(_MINIMUM, int((total <= room).sum()))]
    places = np.linspace(0, len(fitting) - 1, min(len(fitting), _MAXIMUM)).round().astype(int)
    return GoldenSet(
        cases=tuple(_case(answers[row], task, labels) for row in sorted(fitting[place] for place in places))
    )


def _case(answer: ReferenceOutput, task: Task, labels: Sequence[str]) -> GoldenCase:
    return GoldenCase(
        source=answer.case.data,
        prepared=answer.prepared.arrays,
        outputs=answer.outputs,
        labels=expected_result(answer.outputs, task, labels),
    )


def _size(answer: ReferenceOutput) -> int:
    return len(answer.case.data) + sum(array.nbytes for array in answer.prepared.arrays.values())
