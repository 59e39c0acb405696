"""A second judgment of the same inputs: what was computed once, and what a judgment cannot change, is not run again."""

from dataclasses import replace

import numpy as np
import pytest

from exporter.parity.cases import Case, PreparedInput, ReferenceOutput, ServedPath, ServedStage, StageId
from exporter.parity.output_memory import OutputMemory

CASE = Case(name="a", data=b"a")
REFERENCE = ReferenceOutput(
    case=CASE, prepared=PreparedInput(decoded={}, arrays={}, tensors={}), inner={}, outputs={"y": np.zeros(3)}
)


@pytest.fixture
def runs():
    """What was run, in order."""
    return []


@pytest.fixture
def path(runs):
    def stage(name):
        return ServedStage(
            id=StageId(stage=name, computation="x", takes="decoded"),
            run=lambda _reference: runs.append(name) or {"y": np.ones(3)},
        )

    stages = {name: stage(name) for name in ("geometry", "network")}
    return ServedPath(
        name="x", stages=stages, run=lambda cases: runs.append("path") or [{"y": np.ones(3)}] * len(cases)
    )


def twice(path):
    for _ in range(2):
        path.run([CASE])
        for stage in path.stages.values():
            stage.run(REFERENCE)


def test_what_a_path_and_its_stages_gave_is_not_computed_again(path, runs):
    with OutputMemory() as memory:
        twice(memory.remember(path))

    assert runs == ["path", "geometry", "network"]


def test_stages_that_no_second_judgment_asks_for_take_no_memory(path, runs):
    with OutputMemory() as memory:
        twice(memory.remember(path, without=frozenset({"geometry"})))

    assert runs == ["path", "geometry", "network", "geometry"]


def test_failures_are_tried_again(path, runs):
    def fail(cases):
        runs.append("failed")
        raise ValueError(f"{len(cases)} inputs")

    with OutputMemory() as memory:
        remembered = memory.remember(replace(path, run=fail))
        for _ in range(2):
            with pytest.raises(ValueError, match="1 inputs"):
                remembered.run([CASE])

    assert runs == ["failed", "failed"]
