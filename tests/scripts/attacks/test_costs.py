"""The costly requests of 'scripts/attack costs', at a quarter of their size: memory, time and health in bounds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("rich")

ROOT = Path(__file__).parents[3]


def test_no_request_costs_more_than_the_floors_allow():
    paths = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "attacks", "costs", "--size-mb", "8"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 above the floors" in done.stdout
