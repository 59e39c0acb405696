"""Probabilities that are small everywhere: a good copy passes, and a small fault of its logits does not."""

import shutil

import numpy as np
import onnx
import pytest
import torch
from mutation.planting import rehash
from onnx import numpy_helper
from torch import nn

import exporter
from exporter.options.export import ExportOptions
from exporter.options.task import TaskOptions
from exporter.recheck import recheck_artifact


class Rare(nn.Module):
    """Four tags, each of one input in twenty thousand; with a sigmoid of its own, or without."""

    def __init__(self, *, own: bool) -> None:
        super().__init__()
        self.line = nn.Linear(64, 4)
        self.prior = nn.Parameter(torch.full((4,), -10.0))
        self.own = own

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.tanh(self.line(x)) + self.prior
        return logits.sigmoid() if self.own else logits


@pytest.mark.parametrize("own", [True, False])
def test_small_probabilities_pass_and_logits_that_are_five_percent_off_do_not(own, tmp_path):
    torch.manual_seed(0)
    network = Rare(own=own).eval()
    torch.save(network.state_dict(), tmp_path / "rare.pth")
    task = TaskOptions(task="multilabel")
    inputs = ("x=float32[batch,64]",)
    exported = exporter.export(tmp_path / "rare.pth", network, inputs=inputs, task_options=task, out=tmp_path / "rare")
    end = [noise for noise in exported.parity.noise if noise.stage == "end to end"]
    assert end[0].size < 1e-3
    assert end[0].limit == pytest.approx(5e-7)
    assert "a sigmoid" in end[0].note

    stale = tmp_path / "stale"
    shutil.copytree(exported.artifact, stale)
    model = onnx.load(stale / "model.onnx", load_external_data=False)
    (prior,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("prior")]
    prior.CopyFrom(numpy_helper.from_array(np.full(4, -9.95, np.float32), prior.name))
    (stale / "model.onnx").write_bytes(model.SerializeToString())
    rehash(stale)
    options = ExportOptions(checkpoint=tmp_path / "rare.pth", arch=network, task_options=task)

    rows = recheck_artifact(stale, options, pixels=False).evidence.rows

    by_values = {row.stage for row in rows if row.fault == "value" and row.planned}
    assert by_values >= {"network", "end to end"}
