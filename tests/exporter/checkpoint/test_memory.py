"""Memory: the weights are held a few times at most, and an export that cannot have what it needs does not begin."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import exporter
from exporter.architectures.rebuild import rebuild
from exporter.checkpoint import check_unchanged, memory, read_checkpoint

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Two layers of 64 MB: a network whose peak is its weights.
WIDE = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 8))
"""
EXPORT = """
import sys, threading, time
import exporter.workflow

def used_mb():
    sizes = dict(line.split(":") for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])
    return int(sizes["Pss"].split()[0]) / 1000

before, peak = used_mb(), 0
def watch():
    global peak
    while True:
        peak = max(peak, used_mb())
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
exporter.export("wide.pth", "wide.py:build", inputs=["x=float32[batch,4096]"], out="wide")
print(before, peak)
"""


@ON_LINUX
def test_an_export_holds_its_weights_a_few_times(tmp_path):
    (tmp_path / "wide.py").write_text(WIDE)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 8))
    torch.save(network.state_dict(), tmp_path / "wide.pth")
    weights_mb = (tmp_path / "wide.pth").stat().st_size / 1e6

    done = subprocess.run(
        [sys.executable, "-c", EXPORT], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stderr
    before, peak = map(float, done.stdout.split())
    # Of which libraries and compiled code are 200 MB.
    assert peak - before < 3.5 * weights_mb + 250


def linear(path: Path) -> exporter.checkpoint.Checkpoint:
    torch.manual_seed(1)
    torch.save(nn.Linear(64, 64).state_dict(), path)
    return read_checkpoint(path)


def mapped(path: Path, tensor: torch.Tensor) -> bool:
    """Return whether the tensor's memory is the file's."""
    ranges = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(path))
    ]
    return any(start <= tensor.data_ptr() < end for start, end in ranges)


@ON_LINUX
def test_networks_of_one_checkpoint_share_its_pages_and_not_what_they_write(tmp_path):
    path = tmp_path / "linear.pth"
    checkpoint = linear(path)
    content = path.read_bytes()
    first, second = (rebuild(lambda: nn.Linear(64, 64), {}, checkpoint).network for _ in range(2))
    assert mapped(path, first.weight)
    assert mapped(path, second.weight)

    before = second.weight.clone()
    first.weight.zero_()

    assert torch.equal(second.weight, before)
    assert path.read_bytes() == content


def resident_kb(path: Path) -> int:
    """Return how much of a file this process's mappings have in memory."""
    sizes, counts = [], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            counts = line.endswith(str(path))
        elif counts and line.startswith("Rss:"):
            sizes.append(int(line.split()[1]))
    return sum(sizes)


@ON_LINUX
def test_pages_of_a_checkpoint_are_let_go_of_until_their_next_use(tmp_path):
    path = tmp_path / "linear.pth"
    network = rebuild(lambda: nn.Linear(64, 64), {}, linear(path)).network
    before = network.weight.clone()
    assert resident_kb(path)

    memory.drop_pages(network)

    assert resident_kb(path) == 0
    assert torch.equal(network.weight, before)


@ON_LINUX
def test_what_a_network_wrote_to_its_mapped_weights_is_not_let_go_of(tmp_path):
    network = rebuild(lambda: nn.Linear(64, 64), {}, linear(tmp_path / "linear.pth")).network
    network.bias[3] = 7.0

    memory.drop_pages(network)

    assert network.bias[3] == 7.0


def test_a_network_of_no_more_use_holds_no_weights_whatever_refers_to_them():
    first, kept = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    first[1] = kept[1]
    before, reference = kept[1].weight.clone(), first[0].weight

    memory.free_weights(first, kept=kept)

    assert reference.untyped_storage().nbytes() == 0
    assert torch.equal(kept[1].weight, before)


def test_a_checkpoint_that_changes_while_its_weights_are_in_use_is_seen(tmp_path):
    path = tmp_path / "linear.pth"
    checkpoint = linear(path)
    check_unchanged(checkpoint)
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(exporter.CheckpointError, match=r"linear\.pth': changed while it was in use\. Wait"):
        check_unchanged(checkpoint)


def test_an_export_that_needs_more_memory_than_it_may_use_does_not_begin(checkpoint_file, monkeypatch):
    monkeypatch.setattr(memory, "memory_bytes", lambda: 2_000_000_000)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 500_000_000)
    # 125 million values: 500 MB, of which 3.5 times and a gigabyte are needed.
    memory.check_memory(checkpoint_file, 100_000_000, ignore=False)

    with pytest.raises(
        exporter.ExportError, match=r"not enough memory: expected about 2\.8 GB, got 2\.5 GB .* pass --ignore-memory"
    ):
        memory.check_memory(checkpoint_file, 125_000_000, ignore=False)
    memory.check_memory(checkpoint_file, 125_000_000, ignore=True)


def test_the_weights_of_an_export_are_compared_with_the_memory(export_mine, monkeypatch):
    monkeypatch.setattr(memory, "memory_bytes", lambda: 1_000_000)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 0)

    with pytest.raises(exporter.ExportError, match=r"expected about 1\.0 GB, got 0\.0 GB that this process may use"):
        export_mine()
