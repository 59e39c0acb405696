"""The runtime where POSIX's modules, functions and signals are missing, as on Windows."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import TRUECOPY

HIDING = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support" / "without_posix")}


def test_they_are_really_missing():
    program = "import os, signal, fcntl; print(os.fork, signal.SIGHUP)"
    done = subprocess.run([sys.executable, "-c", program], env=HIDING, capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: import of fcntl halted" in done.stderr


def test_a_job_is_written_resumed_and_verified(tiny, photos, tmp_path):
    out = tmp_path / "rows.jsonl"
    for command in (["predict", tiny, *photos.values(), "--out", out], ["verify", tiny], ["doctor"]):
        done = subprocess.run(
            [*TRUECOPY, *map(str, command)], env=HIDING, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
    assert len(out.read_text().splitlines()) == len(photos)


def test_a_signal_stops_a_job(tiny, photos, tmp_path):
    # It reads its list from stdin, which stays open.
    with subprocess.Popen(
        [*TRUECOPY, "predict", str(tiny), "-", "--out", str(tmp_path / "rows.jsonl")],
        env=HIDING,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(f"{photos['cat']}\n")
        process.stdin.flush()
        partial = tmp_path / "rows.jsonl.partial"
        while not partial.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert any("stopping after the inputs in flight" in line for line in process.stderr)
        process.stdin.write(f"{photos['coffee']}\n")
        process.stdin.close()
        assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_the_server_serves_and_stops(tiny, photos):
    pytest.importorskip("uvicorn")
    from support.serving import serving

    with serving(tiny, environment=HIDING) as server:
        response = server.post("/predict/tiny", photos["cat"].read_bytes(), Content_Type="image/jpeg")
        assert response.status == 200
        assert response.json["predictions"][0]["label"] == "cat"
        assert server.stop() == 0
