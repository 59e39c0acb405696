"""Staging of an artifact: what a killed export left behind goes with the next one, and no other's folder does."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest

from exporter.bundle import check_out, staging
from exporter.errors import ExportError

KILLED = """
import sys, time
from pathlib import Path
from exporter.bundle import staging
with staging(Path(sys.argv[1]), force=False) as stage:
    stage.write("weights.bin", b"half")
    print("staged", flush=True)
    time.sleep(60)
"""


def test_a_killed_export_leaves_nothing_for_good(tmp_path):
    out = tmp_path / "model"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True) as killed:
        try:
            assert killed.stdout is not None
            assert killed.stdout.readline() == "staged\n"
            with staging(out, force=False) as stage:
                stage.write("weights.bin", b"whole")
                # The other one is at work, and its folder stays.
                assert len(list(tmp_path.glob(".model.*.partial"))) == 2
            out.joinpath("weights.bin").unlink()
            out.rmdir()
        finally:
            killed.send_signal(signal.SIGKILL)
    (other,) = tmp_path.glob(".model.*.partial")
    assert (other / "weights.bin").read_bytes() == b"half"

    with staging(out, force=False) as stage:
        stage.write("weights.bin", b"whole")

    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_folders_of_other_names_stay(tmp_path):
    kept = [tmp_path / name for name in (".model.partial", ".models.x.partial", "model.x.partial", ".other.x.partial")]
    for folder in kept:
        folder.mkdir()
    (tmp_path / ".model.x.partial").symlink_to(kept[0])

    with staging(tmp_path / "model", force=False) as stage:
        stage.write("weights.bin", b"whole")

    assert all(folder.is_dir() for folder in kept)
    assert (tmp_path / ".model.x.partial").is_symlink()


KILLED_BETWEEN = """
import os, sys
from pathlib import Path
from exporter.bundle import staging
rename = Path.rename
def rename_and_die(self, target):
    rename(self, target)
    if str(target).endswith(sys.argv[2]):
        os._exit(9)
Path.rename = rename_and_die
with staging(Path(sys.argv[1]), force=True) as stage:
    stage.write("truecopy.json", b"new")
"""


def kill_at(out, rename_to):
    out.mkdir()
    (out / "truecopy.json").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED_BETWEEN, str(out), rename_to], check=False)
    assert done.returncode == 9


def test_an_artifact_whose_replacement_was_killed_between_two_renames_comes_back(tmp_path):
    out = tmp_path / "model"
    kill_at(out, ".replaced")
    assert not out.exists()

    with pytest.raises(ExportError, match=r"exists already\. Pass --force"):
        check_out(out, force=False)
    assert (out / "truecopy.json").read_bytes() == b"old"

    with staging(out, force=True) as stage:
        stage.write("truecopy.json", b"newer")
    assert (out / "truecopy.json").read_bytes() == b"newer"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("rename_to", ["model", ".partial"])
def test_a_replacement_that_was_killed_afterwards_leaves_nothing_for_good(tmp_path, rename_to):
    out = tmp_path / "model"
    kill_at(out, rename_to)
    assert (out / "truecopy.json").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2

    with staging(out, force=True) as stage:
        stage.write("truecopy.json", b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_another_process_is_replacing_now_is_not_touched(tmp_path):
    replaced = tmp_path / ".model.x.replaced"
    replaced.mkdir()
    descriptor = os.open(replaced, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    check_out(tmp_path / "model", force=False)

    assert replaced.is_dir()
    assert not (tmp_path / "model").exists()
    os.close(descriptor)
