"""The export command, run as people run it."""

import json
import subprocess
import sys

import pytest
import torch
import torchvision

import runtime


def export(*arguments: object, cwd: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "exporter", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd)


@pytest.fixture
def mine(checkpoint_file, net_file, labels_file):
    return [
        *(checkpoint_file, "--arch", f"{net_file}:MyCNN", "--arch-arg", "num_classes=4"),
        *("--preprocess", f"{net_file}:transform", "--labels", labels_file),
    ]


def test_every_step_shows_itself_and_the_table_follows(mine, tmp_path):
    done = export(*mine, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    positions = [
        done.stdout.index(word)
        for word in (
            "imports",
            "read",
            "rebuild",
            "preprocessing",
            "reference",
            "labels",
            "TorchScript",
            "ONNX",
            "parity",
            "write",
        )
    ]
    assert positions == sorted(positions)
    assert "parity with eager PyTorch" in done.stdout
    assert "proven: truecopy predict artifacts/mine photo.jpg" in done.stdout
    assert runtime.load(tmp_path / "artifacts" / "mine").labels[0] == "cat"


def test_json_is_the_only_thing_on_stdout(mine, tmp_path):
    done = export(*mine, "--json", "--out", "here", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    summary = json.loads(done.stdout)
    assert list(summary) == ["artifact", "manifest", "parity", "steps"]
    assert summary["artifact"] == "here"
    assert summary["parity"]["verdict"] == "passed"
    assert summary["steps"][0]["name"] == "read"


def test_an_error_is_one_line(tmp_path):
    done = export("none.pth", "--arch", "resnet18", cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr == (
        "error: 'none.pth': no such file: expected a file that torch.save or safetensors wrote. Check the path.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [[], ["x.pth", "y.pth"], ["x.pth", "--arch", "a", "--arch-arg", "no-equals"], ["x.pth", "--arch", "a", "--no"]],
)
def test_wrong_usage_is_exit_status_2(arguments, tmp_path):
    assert export(*arguments, cwd=tmp_path).returncode == 2


def test_without_arch_several_that_fit_are_listed_and_none_is_taken(tmp_path):
    torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), tmp_path / "model.pth")

    done = export("model.pth", cwd=tmp_path)

    assert done.returncode == 1
    assert "several architectures fit: expected one, got 'resnet18', 'timm:resnet18'" in done.stderr
    assert "with --arch" in done.stderr
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.slow
def test_without_arch_the_one_that_fits_is_taken_and_said(photos, give_signal, tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.shufflenet_v2_x0_5(num_classes=7)
    transform = torchvision.models.ShuffleNet_V2_X0_5_Weights.DEFAULT.transforms()
    give_signal(network, torch.stack([transform(photo) for photo in photos]))
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 3, "model_state": state}, tmp_path / "model.pth")

    done = export("model.pth", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "shufflenet_v2_x0_5(num_classes=7), the only known architecture that fits" in " ".join(done.stdout.split())
    assert runtime.load(tmp_path / "artifacts" / "model").manifest.source.architecture == "shufflenet_v2_x0_5"
