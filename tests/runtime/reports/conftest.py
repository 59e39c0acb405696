"""Evidence of checks that passed, failed, drifted and proved nothing, as the gate would make it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from runtime.evidence import Evidence, Group, NearTie, Noise, Row, WholeCheck
from runtime.reports import Report

STAGES = {
    "geometry": {"difference": 0.0, "floor": 0.0, "limit": 0.0, "unit": "gray levels"},
    "network": {"difference": 1.5e-6, "floor": 1e-6, "limit": 1e-5, "unit": "logits"},
    "end to end": {"difference": 3e-7, "floor": 4e-7, "limit": 4e-6, "unit": "probability", "label_agreement": 1.0},
}


def make_row(path: str = "model.onnx", stage: str = "network", group: str = "photos", **changes: Any) -> Row:
    given = {
        "path": path,
        "device": "cpu",
        "stage": stage,
        "group": group,
        "planned": 2,
        "inputs": 2,
        "fault": None,
        "finding": "",
        "worst_input": "coffee",
        "difference_p99": 1e-8,
        "share": 0.25,
        "histogram": (10, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0),
        **STAGES[stage],
        **changes,
    }
    return Row(**given)


@pytest.fixture
def row() -> Callable[..., Row]:
    """Makes a row that passed, with what a test wants different."""
    return make_row


@pytest.fixture
def passed() -> Evidence:
    """Two paths, three stages, two groups of inputs: all as they should be."""
    return Evidence(
        artifact="mine.v2",
        verdict="passed",
        reason="",
        first_fault=None,
        max_ratio=10.0,
        noise=(
            Noise(
                tensor="logits",
                stage="network",
                size=12.5,
                signal=8.0,
                precision=1e-6,
                threads=2e-7,
                batch=None,
                floor=1e-6,
                limit=1e-5,
                note="no batch was run",
            ),
        ),
        groups=(Group(name="photos", inputs=("cat", "coffee")), Group(name="generated", inputs=("tall", "wide"))),
        batch_sizes=(1, 2),
        lengths={"length": (3, 7)},
        rows=tuple(
            make_row(path, stage, group)
            for path in ("model.onnx", "runtime")
            for stage in STAGES
            for group in ("photos", "generated")
        ),
        whole=(
            WholeCheck(subject="weights", path="model.onnx", stage="network", count=14),
            WholeCheck(subject="labels", path="labels.txt", stage="labels", count=4),
        ),
        near_ties=(NearTie(path="runtime", input="tall", expected="cat", got="dog", margin=3e-8),),
        not_proven=("CUDA: this machine has no such device",),
        tools={"torch": "2.14.1", "onnxruntime": "1.31.1"},
    )


@pytest.fixture
def failed(passed: Evidence) -> Evidence:
    """The geometry of one path is off, and so is what comes of it; with what breaks careless writers in the words."""
    rows = list(passed.rows)
    finding = "prepared <pixels> & 'others': 100% off, 3::error ]]> \x00 | expected the transform's\nexactly"
    rows[0] = make_row(stage="geometry", fault="value", finding=finding, difference=37.0)
    rows[4] = make_row(stage="end to end", fault="label", finding="labels: expected cat, got dog", difference=0.25)
    return msgspec.structs.replace(
        passed, verdict="failed", reason=f"model.onnx, stage 'geometry': {finding}", first_fault=0, rows=tuple(rows)
    )


@pytest.fixture
def inconclusive(passed: Evidence) -> Evidence:
    return msgspec.structs.replace(passed, verdict="inconclusive", reason="every input has the same scores")


@pytest.fixture
def outcome_of() -> Callable[..., Report]:
    """Makes an outcome of evidence."""

    def make(evidence: Evidence, **changes: Any) -> Report:
        return Report(**{"evidence": evidence, "manifest": "artifacts/mine/truecopy.json", **changes})

    return make
