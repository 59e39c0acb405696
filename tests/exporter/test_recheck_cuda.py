"""Proofs on a real CUDA device: judged like every other path, with TF32's difference shown beside them."""

import re
from pathlib import Path

import pytest
from support.kinds import NAMES, kinds_in

from exporter.options.export import ExportOptions
from exporter.recheck import recheck_artifact

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return kinds_in(tmp_path_factory.mktemp("kinds"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "rows"])
def test_every_kind_is_proven_on_cuda_too(kinds, name):
    kind = kinds[name]
    artifact = kind.export().artifact

    evidence = recheck_artifact(
        artifact, ExportOptions(checkpoint=kind.checkpoint, arch=kind.network, **kind.again), pixels=False
    ).evidence

    assert evidence.passed, evidence.reason
    rows = [row for row in evidence.rows if row.device == "cuda"]
    assert {row.path for row in rows} == {"runtime"}, evidence.not_proven
    assert {row.stage for row in rows} == {"end to end"}
    spreads = [re.search(r"TF32 on CUDA.* ([\d.e+-]+) times the noise floor", line) for line in evidence.not_proven]
    assert len([line for line in spreads if line]) == 1, evidence.not_proven


def test_rows_are_not_proven_on_cuda_and_the_evidence_says_why(kinds):
    """Their categories are looked up in the graph, and no CUDA provider has that operator."""
    kind = kinds["rows"]
    artifact = kind.export().artifact

    evidence = recheck_artifact(
        artifact, ExportOptions(checkpoint=kind.checkpoint, arch=kind.network, **kind.again), pixels=False
    ).evidence

    assert evidence.passed, evidence.reason
    assert {row.device for row in evidence.rows} == {"cpu"}
    assert "CUDAExecutionProvider does not take ArgMax, Equal, LabelEncoder, Where" in " ".join(evidence.not_proven)
