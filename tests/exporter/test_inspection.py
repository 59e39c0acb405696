"""What a checkpoint is: said right, without PyTorch, for people and for programs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from support.commands import truecopy
from torch import nn

import exporter
from exporter.architectures.fingerprints import INDEX_NAME, read_table
from exporter.architectures.select import choose_architecture
from exporter.checkpoint import read_checkpoint
from exporter.inspection import inspect_artifact, inspect_checkpoint, is_artifact

STABLE = {
    *("format", "container", "sha256", "parameters", "tensors", "dtypes", "num_classes", "in_channels", "candidates"),
}


@pytest.fixture
def save(tmp_path):
    def write(content: object) -> Path:
        path = tmp_path / "x.pth"
        torch.save(content.state_dict() if isinstance(content, nn.Module) else content, path)
        return path

    return write


def exact(path: Path) -> list[str]:
    return [fit.architecture for fit in inspect_checkpoint(path).exact]


def test_json_has_its_stable_keys(save):
    network = torchvision.models.mobilenet_v3_small(num_classes=7)
    path = save({"model": {f"module.{key}": value for key, value in network.state_dict().items()}, "epoch": 3})

    done = truecopy("inspect", path, "--json")

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) >= STABLE
    assert found["format"] == "checkpoint"
    assert found["container"] == "zip"
    assert found["tensors"] == len(network.state_dict())
    assert found["num_classes"] == 7
    assert found["in_channels"] == 3
    assert found["leftovers"] == {"epoch": "3"}
    (best,) = (one for one in found["candidates"] if one["arch"] == "mobilenet_v3_small")
    assert best["exact"] is True
    assert best["matched"] == best["total"]
    assert set(best) >= {"arch", "matched", "total", "exact", "num_classes"}


def test_the_page_says_what_it_is_and_what_to_do_next(save):
    done = truecopy("inspect", save(torchvision.models.alexnet(num_classes=7)))

    assert done.returncode == 0, done.stderr
    for part in ("a bare state dict", "classes", "7", "One architecture fits", "alexnet", "truecopy export"):
        assert part in done.stdout, part


def test_inspecting_imports_no_torch_and_writes_nothing_to_the_working_folder(save):
    path = save(torchvision.models.resnet18())
    script = (
        f"from exporter.inspection import inspect_checkpoint; import sys; inspect_checkpoint({str(path)!r})\n"
        "assert not {'torch', 'torchvision', 'timm', 'onnx', 'onnxruntime'} & set(sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr


def test_a_refused_checkpoint_is_one_line(save):
    done = truecopy("inspect", save({"model": nn.Linear(2, 2)}))

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "torch.nn.modules.linear.Linear" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("alexnet", {}),
        ("vit_b_32", {}),
        ("regnet_y_400mf", {}),
        ("googlenet", {"init_weights": False}),
        ("googlenet", {"init_weights": False, "aux_logits": False}),
        ("lraspp_mobilenet_v3_large", {"weights_backbone": None}),
        ("fcn_resnet50", {"weights_backbone": None, "aux_loss": True}),
        ("retinanet_resnet50_fpn", {"weights_backbone": None}),
        ("ssdlite320_mobilenet_v3_large", {"weights_backbone": None}),
        ("r3d_18", {}),
    ],
)
def test_every_task_of_torchvision_is_known(name, options, save):
    path = save(torchvision.models.get_model(name, num_classes=6, **options))
    inspection = inspect_checkpoint(path)

    assert name in [fit.architecture for fit in inspection.exact]
    assert inspection.num_classes == 6


def test_heads_and_stems_of_another_size_fit(save):
    network = torchvision.models.resnet50()
    network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    network.fc = nn.Sequential(nn.Dropout(), nn.Linear(2048, 10))
    inspection = inspect_checkpoint(save(network))

    assert "resnet50" in [fit.architecture for fit in inspection.exact]
    assert (inspection.num_classes, inspection.in_channels) == (10, 1)


def test_a_head_of_two_layers_fits_nothing_and_the_page_says_why(save, capsys):
    from rich.console import Console

    network = torchvision.models.resnet50()
    network.fc = nn.Sequential(nn.Linear(2048, 64), nn.ReLU(), nn.Linear(64, 10))
    inspection = inspect_checkpoint(save(network))

    assert inspection.exact == []
    assert inspection.fits[0].architecture.endswith("resnet50")
    Console(width=100).print(inspection.to_page())
    assert "the weights cannot tell what is between them" in capsys.readouterr().out.replace("\n", " ")


def test_one_missing_or_foreign_tensor_is_no_fit(save):
    tensors = dict(torchvision.models.alexnet().state_dict())
    missing = {key: value for key, value in tensors.items() if key != "features.3.bias"}

    assert exact(save(tensors)) == ["alexnet"]
    assert exact(save(missing)) == []
    assert exact(save(tensors | {"extra": torch.ones(1)})) == []


def test_what_shapes_cannot_tell_is_named(save):
    """Two of timm's differ in nothing that has a shape."""
    groups: dict[tuple[int, ...], list[str]] = {}
    table = read_table()
    for row, name in enumerate(table.names):
        groups.setdefault(tuple(table.rows[table.starts[row] : table.starts[row + 1]]), []).append(name)
    pairs = [names for names in groups.values() if len(names) > 1 and all(name.startswith("timm:") for name in names)]
    small = next(names for names in pairs if any("mobilenet" in name or "efficientnet_b0" in name for name in names))
    path = save(timm.create_model(small[0].partition(":")[2], num_classes=4))

    inspection = inspect_checkpoint(path)

    assert {fit.architecture for fit in inspection.exact} == set(small)
    assert inspection.to_dict()["cannot_tell"]
    with pytest.raises(exporter.ArchitectureError, match=r"several architectures fit.*cannot tell their"):
        choose_architecture(read_checkpoint(path))


def test_twins_of_two_libraries_that_answer_alike_count_as_one(save):
    architecture, arguments, reason = choose_architecture(read_checkpoint(save(torchvision.models.resnet34())))

    assert (architecture, arguments) == ("resnet34", {})
    assert "timm:resnet34 fits as well, with equal outputs" in reason


def test_somebodys_own_network_fits_nothing(save):
    path = save(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 2)))

    assert exact(path) == []
    with pytest.raises(exporter.ArchitectureError, match="no known architecture fits"):
        choose_architecture(read_checkpoint(path))


def test_the_index_is_small_and_says_what_it_was_made_with():
    from importlib.resources import files

    table = read_table()

    assert len((files("exporter.architectures") / INDEX_NAME).read_bytes()) < 1_000_000
    assert set(table.index.made_with) == {"torch", "torchvision", "timm"}
    known = {name.partition(" ")[0] for name in table.names}
    wanted = {name for name in torchvision.models.list_models() if not name.startswith("quantized_")}
    assert wanted - known == set()
    assert {f"timm:{name}" for name in timm.list_models()} - known == set()


def test_the_promise_of_an_artifact_is_shown(exported, capsys):
    from rich.console import Console

    assert is_artifact(exported.artifact)

    inspection = inspect_artifact(exported.artifact)

    assert inspection.to_dict()["compared"]["batch"] == {"lowest": 1, "highest": 16}
    assert inspection.to_dict()["onnx"]["oldest_onnxruntime"]
    Console(width=100).print(inspection.to_page())
    page = capsys.readouterr().out
    assert re.search(r"height \d+ to \d+", page)
    assert "batch 1 to 16" in page
    assert re.search(r"runs on +opset \d+, IR \d+, onnxruntime [\d.]+ or newer", page)
