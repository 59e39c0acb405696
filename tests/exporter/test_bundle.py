"""Staging of an artifact: what a killed export left behind goes with the next one, and no other's folder does."""

import signal
import subprocess
import sys

from exporter.bundle import staging

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
