"""What 'truecopy bench --against' puts beside the artifact gives the artifact's answers."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import exporter
import runtime
from exporter.eager.bench import build_baselines
from runtime.artifact.open import open_artifact


@pytest.mark.slow
def test_every_rival_gives_the_artifacts_scores(exported, checkpoint_file):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    ours = runtime.load(exported.artifact).run({"pixels": pixels})["probabilities"]

    rivals = build_baselines(checkpoint_file, open_artifact(exported.artifact))

    assert list(rivals) == ["eager PyTorch", "TorchScript", "torch.compile"]
    for name, rival in rivals.items():
        assert rival({"pixels": pixels}) == pytest.approx(ours, abs=1e-5), name


class Net(torch.nn.Module):
    """Maps of 3 classes, or one value per input."""

    def __init__(self, maps: bool = False) -> None:
        super().__init__()
        self.maps = maps
        self.line = torch.nn.Conv2d(3, 3 if maps else 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x) if self.maps else 0.5 + self.line(x).mean((2, 3))


@pytest.mark.parametrize(
    "options",
    [
        {"task": "segment", "arguments": {"maps": True}},
        {"task": "binary"},
        {"task": "regress", "target_mean": (40.0,), "target_std": (7.0,)},
    ],
    ids=lambda options: options["task"],
)
def test_eager_scores_are_the_artifacts_for_every_task(options, net_file, tmp_path):
    torch.manual_seed(0)
    torch.save(Net(**options.get("arguments", {})).state_dict(), tmp_path / "net.pth")
    arch = f"{__file__}:Net"
    done = exporter.export(
        tmp_path / "net.pth", arch, preprocess=f"{net_file}:transform", out=tmp_path / "artifact", **options
    )
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    (ours,) = runtime.load(done.artifact).run({"pixels": pixels}).values()

    eager = build_baselines(tmp_path / "net.pth", open_artifact(done.artifact))["eager PyTorch"]

    assert eager({"pixels": pixels}) == pytest.approx(ours, abs=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and a PyTorch that has it")
def test_beside_cuda_every_rival_runs_there_in_the_same_arithmetic(exported, checkpoint_file):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    ours = runtime.load(exported.artifact, device="cuda").run({"pixels": pixels})["probabilities"]

    rivals = build_baselines(checkpoint_file, open_artifact(exported.artifact), device="cuda")

    assert list(rivals) == ["eager PyTorch", "TorchScript", "torch.compile"]
    for name, rival in rivals.items():
        torch.cuda.reset_peak_memory_stats()
        assert rival({"pixels": pixels}) == pytest.approx(ours, abs=1e-5), name
        assert torch.cuda.max_memory_allocated() > 0, name


def test_beside_a_device_that_pytorch_does_not_have_the_rivals_say_that_they_are_on_the_cpu(exported, checkpoint_file):
    rivals = build_baselines(checkpoint_file, open_artifact(exported.artifact), device="openvino")

    assert [name.removesuffix(" on the CPU") for name in rivals] == ["eager PyTorch", "TorchScript", "torch.compile"]
    assert all(name.endswith(" on the CPU") for name in rivals)


def test_another_checkpoint_is_no_rival(exported, checkpoint_file, tmp_path):
    other = tmp_path / "other.pth"
    other.write_bytes((checkpoint_file.parent / "mine.pth").read_bytes())
    weights = torch.load(other, weights_only=True)
    torch.save({name: value + 1 if value.is_floating_point() else value for name, value in weights.items()}, other)

    with pytest.raises(exporter.CheckpointError, match="not the checkpoint of 'mine'"):
        build_baselines(other, open_artifact(exported.artifact))


@pytest.mark.slow
def test_the_command_puts_pytorch_beside_it(exported, checkpoint_file):
    command = [sys.executable, "-m", "truecopy", "bench", str(exported.artifact)]
    options = ["--against", str(checkpoint_file), "--seconds", "0.1", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=240)

    assert done.returncode == 0, done.stderr
    baselines = json.loads(done.stdout)["baselines"]
    assert [one["name"] for one in baselines] == ["truecopy", "eager PyTorch", "TorchScript", "torch.compile"]
    assert all(one["difference"] < 1e-5 for one in baselines)
