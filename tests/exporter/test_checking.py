"""'truecopy parity': an artifact that is already there, proven again, or what differs, named."""

import json
import shutil
import subprocess
import sys

import pytest

import exporter
from exporter import checking
from exporter.checking import check
from runtime import geometry


@pytest.fixture
def arguments(exported, checkpoint_file, net_file):
    return {"path": exported.artifact, "checkpoint": checkpoint_file, "preprocess": f"{net_file}:transform"}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Images of a few sizes: the sweep over all of them is for people."""
    original = checking.compare_pixels
    monkeypatch.setattr(
        checking, "compare_pixels", lambda *given: original(*given, sizes=[(1, 1), (61, 44), (90, 120)])
    )


def test_an_artifact_is_proven_again(arguments):
    checked = check(**arguments)

    assert checked.passed
    assert checked.report.verdict == "passed"
    assert {row.path for row in checked.pixels} == {"model.onnx", "runtime", "model.torchscript"}


def test_a_fault_of_the_runtime_is_named_by_its_step(arguments, monkeypatch):
    monkeypatch.setattr(geometry, "crop_origin", lambda size, crop, _rounding: (size - crop) // 2)
    checked = check(**arguments)

    assert not checked.passed
    assert {(row.path, row.step.partition("'")[2]) for row in checked.pixels if row.difference} == {
        ("runtime", "CenterCrop'")
    }


def test_another_checkpoint_is_refused(arguments, tmp_path, state_dict):
    import torch

    torch.save({key: value + 0.5 for key, value in state_dict.items()}, tmp_path / "other.pth")
    with pytest.raises(exporter.CheckpointError, match="not the checkpoint of 'mine': expected SHA-256"):
        check(**{**arguments, "checkpoint": tmp_path / "other.pth"})


def test_another_transform_is_refused(arguments):
    from torchvision import transforms

    other = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    with pytest.raises(exporter.ParityError, match="another transform was folded in"):
        check(**{**arguments, "preprocess": other})


def test_a_damaged_file_is_found_first(arguments, tmp_path):
    import runtime

    shutil.copytree(arguments["path"], tmp_path / "copy")
    with (tmp_path / "copy" / "labels.txt").open("a") as stream:
        stream.write("x")
    with pytest.raises(runtime.ArtifactError, match=r"labels\.txt"):
        check(**{**arguments, "path": tmp_path / "copy"})


@pytest.mark.slow
def test_the_command(arguments, net_file):
    command = [sys.executable, "-c", "from runtime.cli import main; main()", "parity", str(arguments["path"])]
    command += ["--checkpoint", str(arguments["checkpoint"]), "--preprocess", f"{net_file}:transform", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["passed"]
    assert {row["images"] for row in summary["pixels"]} == {68}
