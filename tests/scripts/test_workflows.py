"""The workflow that builds the native kernel's wheels: its paths exist, and its test command runs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "wheels.yml"


@pytest.fixture(scope="module")
def workflow():
    if not WORKFLOW.exists():
        pytest.skip("the wheel has no .github/")
    return pytest.importorskip("yaml").safe_load(WORKFLOW.read_text())


def test_every_path_that_starts_it_exists(workflow):
    # YAML 1.1 reads the key "on" as true.
    for path in workflow[True]["pull_request"]["paths"]:
        assert (ROOT / path.removesuffix("/**")).exists(), path


@pytest.mark.skipif(importlib.util.find_spec("truecopy_kernels") is None, reason="the kernel is not installed")
def test_its_test_command_runs_the_cases(workflow):
    (step,) = [one for one in workflow["jobs"]["wheels"]["steps"] if "cibuildwheel" in one.get("uses", "")]
    command = step["env"]["CIBW_TEST_COMMAND"].replace("{project}", str(ROOT)).replace("--cases 3000", "--cases 20")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"

    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env=environment,
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert "0 unequal" in done.stdout
