"""A task is one file on each side, one type in the manifest, and one line in each registry."""

import json
import runpy

import numpy as np
import pytest
import torch
from support.toy_task.interpreter import Embedding
from support.toy_task.manifest import Embed, EmbedManifest
from support.toy_task.postprocessing import EmbedPostprocessing
from torch import nn
from typer.testing import CliRunner

import exporter
import runtime
from exporter.cli import export as export_command
from exporter.options.export import ExportOptions
from exporter.options.task import TaskOptions
from exporter.outputs.registry import TASKS
from exporter.recheck import recheck_artifact
from runtime.manifest import document
from runtime.outputs.registry import INTERPRETERS
from runtime.verify import verify

INPUTS = ("x=float32[batch,5]",)
EMBED = TaskOptions(task="embed")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register the task: the only edits that it takes."""
    monkeypatch.setitem(TASKS, "embed", "support.toy_task.postprocessing:EmbedPostprocessing")
    monkeypatch.setitem(INTERPRETERS, Embed, "support.toy_task.interpreter:EmbedInterpreter")
    monkeypatch.setattr(document, "Manifest", EmbedManifest)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Linear(5, 3)
    with torch.no_grad():
        network.weight.mul_(9)
    return network


@pytest.fixture
def checkpoint(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "model.pth")
    return tmp_path / "model.pth"


@pytest.fixture
def exported(checkpoint, network, tmp_path):
    return exporter.export(checkpoint, network, inputs=INPUTS, out=tmp_path / "artifact", task_options=EMBED)


def test_it_is_exported_predicted_and_verified(exported, network):
    x = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    with torch.no_grad():
        logits = network(torch.from_numpy(x))
    expected = (logits / logits.square().sum(1, keepdim=True).sqrt()).numpy()

    model = runtime.load(exported.artifact)
    result = model.predict(x[0])
    many = model.predict([x[0], np.full(5, 3e38, np.float32), x[1]])

    assert exported.manifest.task == model.manifest.task == Embed(dimensions=3)
    assert type(result) is Embedding
    np.testing.assert_allclose([result.vector, many[2].vector], expected, atol=1e-6)
    assert "expected finite scores" in many[1].error
    verification = verify(exported.artifact)
    assert verification.passed
    assert "labels" in {check.name for check in verification.checks}


def test_every_path_and_stage_is_compared(exported, checkpoint, network):
    rows = {(row.path, row.stage) for row in exported.parity.rows}
    assert {("runtime", "network"), ("runtime", "activation"), ("runtime", "labels")} <= rows
    assert {("model.torchscript", "end to end"), ("runtime", "end to end")} <= rows

    recheck = recheck_artifact(exported.artifact, ExportOptions(checkpoint=checkpoint, arch=network))

    assert recheck.evidence.passed
    assert {(row.path, row.stage) for row in recheck.evidence.rows} >= rows


def test_a_fault_in_its_postprocessing_is_found(checkpoint, network, tmp_path, monkeypatch):
    def add_nodes(postprocessing, nodes):
        nodes.add("Identity", "logits", output=postprocessing.outputs[0].name)

    monkeypatch.setattr(EmbedPostprocessing, "add_nodes", add_nodes)

    with pytest.raises(exporter.ParityError, match="'activation'"):
        exporter.export(checkpoint, network, inputs=INPUTS, out=tmp_path / "artifact", task_options=EMBED)


def test_the_command_line_knows_it(checkpoint, tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\n\n\ndef build():\n    return nn.Linear(5, 3)\n")
    command = [checkpoint, "--arch", f"{tmp_path}/net.py:build", "--input", INPUTS[0], "--out", tmp_path / "artifact"]

    app = runpy.run_path(str(export_command.__file__))["app"]  # made anew: the registry is read when a command is made
    done = CliRunner().invoke(app, [*map(str, command), "--task", "embed"])

    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "artifact" / "truecopy.json").read_text())["task"]["kind"] == "embed"


def test_without_its_registry_line_it_is_refused(checkpoint, network, tmp_path, monkeypatch):
    monkeypatch.delitem(TASKS, "embed")

    with pytest.raises(exporter.ExportError, match=r"task: expected one of classify, .*, raw, got 'embed'"):
        exporter.export(checkpoint, network, inputs=INPUTS, out=tmp_path / "artifact", task_options=EMBED)
