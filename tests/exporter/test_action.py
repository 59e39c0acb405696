"""The composite action for GitHub, read as the runner reads it, and its command run for real."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from runtime.cli.main import build_app

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "parity" / "action.yml"
WORKFLOW = ROOT / ".github" / "workflows" / "parity.yml"


@pytest.fixture(scope="module")
def action():
    if not ACTION.exists():
        pytest.skip("the wheel has no .github/")
    return pytest.importorskip("yaml").safe_load(ACTION.read_text())


def test_it_is_composite_and_every_input_reaches_a_step(action):
    assert action["runs"]["using"] == "composite"
    used = {value for step in action["runs"]["steps"] for value in step["env"].values()}
    assert used == {f"${{{{ inputs.{name} }}}}" for name in action["inputs"]}
    assert all(step["shell"] == "bash" for step in action["runs"]["steps"])


def test_the_documented_workflow_gives_it_inputs_that_it_has(action):
    yaml = pytest.importorskip("yaml")
    page = (ROOT / "docs" / "guides" / "ci-parity.md").read_text()
    workflow = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    (step,) = [one for one in workflow["jobs"]["parity"]["steps"] if "truecopy" in one.get("uses", "")]
    required = {name for name, given in action["inputs"].items() if given.get("required")}
    assert required <= set(step["with"]) <= set(action["inputs"])
    assert step["uses"].partition("@")[0].endswith(str(ACTION.parent.relative_to(ROOT)))


def test_the_workflow_of_this_repository_checks_what_the_demo_exports(action):
    workflow = pytest.importorskip("yaml").safe_load(WORKFLOW.read_text())
    steps = workflow["jobs"]["demo"]["steps"]
    (index,) = [number for number, step in enumerate(steps) if step.get("uses", "").startswith("./")]
    step = steps[index]
    assert ROOT / step["uses"] == ACTION.parent
    required = {name for name, given in action["inputs"].items() if given.get("required")}
    assert required <= set(step["with"]) <= set(action["inputs"])
    exports = [number for number, one in enumerate(steps) if "scripts/demo" in one.get("run", "")]
    assert [number < index for number in exports] == [True]

    demo = (ROOT / "scripts" / "demo").read_text().replace("$material", "build/demo")
    inputs = step["with"]
    assert demo.count(f"truecopy export {inputs['checkpoint']} ") == 1
    assert all(f"truecopy {command} {inputs['artifact']}" in demo for command in ("verify", "predict"))
    options = inputs["options"].split()
    assert all(pair in demo for pair in map(" ".join, zip(options[::2], options[1::2], strict=True)))
    # What it passes is what the command takes.
    group = typer.main.get_command(build_app())
    command = group.get_command(click.Context(group), "parity")
    arguments = [inputs["artifact"], "--checkpoint", inputs["checkpoint"], *options]
    assert command.make_context("parity", arguments).params["artifact"] == inputs["artifact"]


@pytest.mark.parametrize(
    ("index", "options"), [("https://index.example/cpu", ["--extra-index-url", "https://index.example/cpu"]), ("", [])]
)
def test_pytorch_comes_from_the_index_that_is_named(action, tmp_path, index, options):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (step,) = [one for one in action["runs"]["steps"] if "INDEX" in one["env"]]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "INSTALL": "truecopy[export,cpu]", "INDEX": index}
    done = subprocess.run(
        ["/bin/bash", "-eo", "pipefail", "-c", step["run"]], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["-m", "pip", "install", "--quiet", *options, "truecopy[export,cpu]"]
    assert action["inputs"]["torch-index"]["default"] == "https://download.pytorch.org/whl/cpu"


def test_the_documented_workflow_for_each_push_needs_no_pytorch():
    yaml = pytest.importorskip("yaml")
    page = (ROOT / "docs" / "guides" / "ci-parity.md").read_text()
    workflow = yaml.safe_load(page.split("```yaml\n")[2].partition("```")[0])
    commands = [step["run"] for step in workflow["jobs"]["verify"]["steps"] if "run" in step]

    assert commands == ['pip install "truecopy[cpu]"', "truecopy verify artifacts/mine"]


@pytest.mark.parametrize(("form", "status"), [("", 0), ("nowhere", 1)])
def test_its_script_runs_the_command_and_hands_on_the_verdict(
    action, exported, checkpoint_file, net_file, tmp_path, form, status
):
    """The command is the one that users run, but for the sizes of the made images, which take seconds."""
    command = tmp_path / "bin" / "truecopy"
    command.parent.mkdir()
    code = "from exporter.inputs.image import made_images, pixel_check as check; "
    code += "check.choose_drawings = lambda steps, thorough: made_images.drawings_of([(1, 1), (61, 44)]); "
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}from runtime.cli.main import main; main()" "$@"\n')
    command.chmod(0o755)
    (step,) = [one for one in action["runs"]["steps"] if one.get("id") == "parity"]
    environment = {
        **os.environ,
        "PATH": f"{command.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ARTIFACT": str(exported.artifact),
        "CHECKPOINT": str(checkpoint_file) if not form else str(net_file),
        "OPTIONS": f"--preprocess {net_file}:transform",
        "BASELINE": str(exported.artifact / "parity.json"),
        "REPORTS": str(tmp_path / "reports"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_ACTIONS": "true",
    }
    done = subprocess.run(
        ["/bin/bash", "-e", "-c", step["run"]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )

    assert done.returncode == status, done.stderr
    assert (tmp_path / "reports" / "parity.xml").exists()
    assert (tmp_path / "reports" / "parity.html").exists()
    if not status:
        assert (tmp_path / "output").read_text() == "verdict=passed\n"
        assert json.loads((tmp_path / "reports" / "parity.json").read_text())["drift"]["grown"] == []
