"""A sample of the damaged and hostile files of 'scripts/attack files': no traceback, no hang, no code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("uvicorn")

ROOT = Path(__file__).parents[3]


def attack(*arguments):
    """Run a part of the attacks in a process of its own, which forks before it has threads; return what it printed."""
    command = [sys.executable, "-m", "attacks", *arguments]
    paths = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_a_sample_of_files_leads_to_one_sentence_each():
    printed = attack("files", "--checkpoints", "20", "--hostile", "20", "--artifacts", "6")

    assert "hostile artifacts: 0 with a traceback" in printed


def test_a_sample_of_manifests_leads_to_one_sentence_each():
    """Their fields are those of the schema, also of types that are added to it."""
    printed = attack("fields", "--every", "53", "--artifacts", "3")

    assert "used whole: 0 with a traceback" in printed
