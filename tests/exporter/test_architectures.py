"""A network is rebuilt with every tensor of its checkpoint, or not at all."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

import exporter
from exporter.architectures import rebuild
from exporter.checkpoint import Checkpoint, read_checkpoint


def checkpoint_of(network: nn.Module | dict[str, torch.Tensor]) -> Checkpoint:
    tensors = network if isinstance(network, dict) else network.state_dict()
    return Checkpoint(path=Path("x.pth"), sha256="", size_bytes=0, container="zip", entry="", tensors=tensors)


@pytest.mark.parametrize(
    "name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5"]
)
@pytest.mark.parametrize("classes", [7, 1000])
def test_torchvisions_number_of_classes_comes_from_the_head(name, classes):
    source = torchvision.models.get_model(name, num_classes=classes)

    rebuilt = rebuild(name, {}, checkpoint_of(source))

    assert rebuilt.arguments == ({} if classes == 1000 else {"num_classes": 7})
    assert not rebuilt.network.training
    expected = source.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in rebuilt.network.state_dict().items())


def test_a_users_class_is_built_with_its_arguments(checkpoint_file, net_file):
    rebuilt = rebuild(f"{net_file}:MyCNN", {"num_classes": 4}, read_checkpoint(checkpoint_file))

    assert rebuilt.network.classifier.out_features == 4
    assert rebuilt.torchvision_name == ""


def test_a_name_may_be_a_function_or_a_method(tmp_path):
    source = tmp_path / "nets.py"
    source.write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n"
        "    @classmethod\n"
        "    def of(cls, width): return cls(width, 2)\n"
        "def make(width=3): return Net(width, 2)\n"
    )
    checkpoint = checkpoint_of(nn.Linear(3, 2))

    assert rebuild(f"{source}:make", {}, checkpoint).network.in_features == 3
    assert rebuild(f"{source}:Net.of", {"width": 3}, checkpoint).network.in_features == 3
    assert rebuild("torch.nn:Linear", {"in_features": 3, "out_features": 2}, checkpoint).reference == "torch.nn:Linear"


def test_a_file_finds_the_files_beside_it_and_hides_no_package(tmp_path):
    (tmp_path / "parts_beside.py").write_text("WIDTH = 3\n")
    (tmp_path / "json.py").write_text(
        "from torch import nn\nfrom parts_beside import WIDTH\nmake = lambda: nn.Linear(WIDTH, 2)\n"
    )

    rebuild(f"{tmp_path / 'json.py'}:make", {}, checkpoint_of(nn.Linear(3, 2)))

    import json

    assert json.loads("1") == 1


def test_keys_that_do_not_fit_are_listed_by_kind():
    tensors = dict(torchvision.models.resnet18().state_dict())
    del tensors["bn1.bias"]
    tensors["extra.weight"] = torch.zeros(2, 3)
    tensors["conv1.weight"] = torch.zeros(64, 1, 7, 7)

    with pytest.raises(exporter.ArchitectureError) as caught:
        rebuild("resnet18", {}, checkpoint_of(tensors))
    message = str(caught.value)

    assert "expected 122 tensors, 120 match" in message
    assert "missing 1 ('bn1.bias' [64])" in message
    assert "unexpected 1 ('extra.weight' [2, 3])" in message
    assert "other shape 1 ('conv1.weight' expected [64, 3, 7, 7], got [64, 1, 7, 7])" in message


def test_a_long_list_ends_in_a_count():
    with pytest.raises(exporter.ArchitectureError, match="and 112 more"):
        rebuild("resnet18", {}, checkpoint_of(nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("name", "near"), [("resnet19", "'resnet18'"), ("ResNet50", "'resnet50'"), ("efficientnet_b9", "'efficientnet_b")]
)
def test_an_unknown_name_gets_the_nearest(name, near):
    with pytest.raises(exporter.ArchitectureError, match=f"Did you mean .*{near}"):
        rebuild(name, {}, checkpoint_of(nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("nowhere.py:Net", "no such file"),
        ("no_such_package:Net", "no module named 'no_such_package'"),
        ("torch.nn:Lineal", "no 'Lineal' in 'torch.nn'"),
        ("torch:pi", "not an architecture: expected a class or function"),
        ("torch.nn:Linear", r"Its arguments are \(in_features: int"),
        ("builtins:dict", r"expected it to return a torch\.nn\.Module, got dict"),
    ],
)
def test_a_reference_that_leads_nowhere_says_where_it_stops(reference, reason):
    with pytest.raises(exporter.ArchitectureError, match=reason):
        rebuild(reference, {}, checkpoint_of(nn.Linear(2, 2)))


def test_a_file_that_does_not_import_shows_its_own_error(tmp_path):
    broken = tmp_path / "broken_net.py"
    broken.write_text("raise ValueError('no dice')\n")

    with pytest.raises(exporter.ArchitectureError, match="ValueError: no dice"):
        rebuild(f"{broken}:Net", {}, checkpoint_of(nn.Linear(2, 2)))
