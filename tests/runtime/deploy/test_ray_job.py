"""'truecopy predict --engine ray' on real clusters of several nodes: the rows of one machine, whatever dies."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray_nodes import LOOPBACK, Nodes, running_nodes

pytest.importorskip("ray", reason="the extra 'ray' is not installed")
pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-c", "from runtime.cli import main; main()", "predict"]
PHOTOS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos) -> Path:
    """Photos with a damaged one in every hundred."""
    folder = tmp_path_factory.mktemp("photos")
    sources = list(photos.values())
    for number in range(PHOTOS):
        path = folder / f"{number:04}.jpg"
        if number % 100 == 50:
            path.write_bytes(b"damaged")
        else:
            path.symlink_to(sources[number % len(sources)])
    return folder


@pytest.fixture(scope="module")
def single(tiny, folder, tmp_path_factory) -> bytes:
    """The rows of one machine."""
    out = tmp_path_factory.mktemp("single") / "rows.jsonl"
    subprocess.run([*COMMAND, str(tiny), str(folder), "--out", str(out)], check=False, timeout=60, capture_output=True)
    assert out.read_bytes().count(b"\n") == PHOTOS
    return out.read_bytes()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes of one core; the head has none, as its driver works."""
    with running_nodes(tmp_path_factory.mktemp("cluster"), {"num_cpus": 0}, {}, {}) as nodes:
        yield nodes


def start(tiny, folder, *options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(tiny), str(folder), "--engine", "ray", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **LOOPBACK},
    )


def finish(process, timeout_s: float = 120) -> tuple[int, str]:
    try:
        _, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, errors


def wait_for_rows(process, out: Path, count: int) -> None:
    partial = out.with_name(out.name + ".partial")
    deadline = time.monotonic() + 90
    while not partial.exists() or partial.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_driver_killed_and_a_node_lost_leave_every_row_once(tiny, folder, single, cluster: Nodes, tmp_path):
    """kill -9 of the driver, then a node is lost in the middle of the resumed run."""
    out = tmp_path / "rows.jsonl"
    process = start(tiny, folder, "--address", cluster.address, "--out", out)
    wait_for_rows(process, out, 1)
    process.kill()
    process.communicate(timeout=60)
    rows = (tmp_path / "rows.jsonl.partial").read_bytes().count(b"\n")
    assert 0 < rows < PHOTOS

    process = start(tiny, folder, "--address", cluster.address, "--out", out, "--resume", "--allow-errors")
    wait_for_rows(process, out, rows + 1)
    cluster.kill(2)
    code, errors = finish(process)
    cluster.add()

    assert code == 0, errors
    assert f"{PHOTOS} rows" in errors
    assert out.read_bytes() == single
