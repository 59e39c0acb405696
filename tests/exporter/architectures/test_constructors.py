"""Constructors: nothing is downloaded that the checkpoint overwrites, and a failure names its cause and the line."""

import pytest
import torch
import torchvision
from torch import nn

from exporter.architectures.constructors import without_downloads
from exporter.architectures.meta_models import build_skeleton
from exporter.architectures.registry import build, resolve
from exporter.conversion.network_io import call
from exporter.errors import ArchitectureError, ConversionError

SOURCE = """
import timm
import torch
import torch.hub
import torchvision
from torch import nn


class OfTorchvision(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torchvision.models.shufflenet_v2_x0_5(weights="IMAGENET1K_V1")
        self.net.fc = nn.Linear(1024, 3)


class OfHub(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 2)
        self.load_state_dict(torch.hub.load_state_dict_from_url("https://example.invalid/weights.pth"))


class OfTimm(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = timm.create_model("test_resnet", pretrained=True, num_classes=3)


class ByHand(nn.Module):
    def __init__(self):
        super().__init__()
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files")


class OfFile(nn.Module):
    def __init__(self):
        super().__init__()
        torch.load("weights/backbone.pth")


class OnCuda(nn.Module):
    def __init__(self, device="cuda"):
        super().__init__()
        raise RuntimeError("Found no NVIDIA driver on your system. Please check that you have one")


class InHalf(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 2)
        self.half()


class Configured(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.line = nn.Linear(cfg.width, cfg["layers"][0]["width"], bias=vars(cfg).get("bias", False))


def of_hub():
    return torch.hub.load("nobody/nothing", "net", trust_repo=True, skip_validation=True)


def of_missing_data():
    return nn.Linear(len(CLASSES), 2)


class OnCudaLater(nn.Module):
    def forward(self, x):
        raise AssertionError("Torch not compiled with CUDA enabled")


model = torchvision.models.shufflenet_v2_x0_5(weights="IMAGENET1K_V1")
model.fc = nn.Linear(1024, 3)
CLASSES = open("no-such-data.csv").read()
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "downloading_net.py").write_text(SOURCE)
    return "downloading_net.py"


@pytest.mark.parametrize("name", ["OfTorchvision", "OfHub", "OfTimm"])
def test_pretrained_weights_are_not_downloaded(source, name):
    blueprint = resolve(f"{source}:{name}")

    assert isinstance(build(blueprint, {}), nn.Module)
    assert isinstance(build_skeleton(blueprint.build, {}), nn.Module)


def test_a_network_that_a_script_builds_where_it_defines_it_downloads_nothing(source):
    network = build(resolve(f"{source}:model"), {})

    assert network.fc.out_features == 3


def test_other_state_dicts_are_loaded_and_downloads_come_back():
    line = nn.Linear(2, 2)
    with without_downloads():
        line.load_state_dict({"weight": torch.ones(2, 2), "bias": torch.zeros(2)})

    assert torch.equal(line.weight, torch.ones(2, 2))
    assert nn.Module.load_state_dict.__qualname__ == "Module.load_state_dict"
    assert torch.hub.load_state_dict_from_url.__name__ == "load_state_dict_from_url"
    assert torchvision.models.WeightsEnum.get_state_dict.__name__ == "get_state_dict"


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        (
            "ByHand",
            r"it downloads something, which failed: OSError: .* \(downloading_net.py:32, 'raise OSError.*weights=",
        ),
        (
            "OfFile",
            r"it reads a file that is not here: FileNotFoundError: .*'weights/backbone.pth' \(downloading_net.py",
        ),
        (
            "OnCuda",
            r"it asks for a CUDA device, which is not here: RuntimeError: .*Leave .cuda\(\) and .to\('cuda'\) out",
        ),
    ],
)
def test_a_failing_constructor_is_refused_with_its_cause(source, name, cause):
    with pytest.raises(ArchitectureError, match=f"building it failed: {cause}"):
        build(resolve(f"{source}:{name}"), {})


def test_a_network_of_half_precision_is_one_of_float32(source):
    network = build(resolve(f"{source}:InHalf"), {})

    assert network.line.weight.dtype == torch.float32
    assert network.line(torch.ones(1, 2)).dtype == torch.float32


def test_settings_in_one_argument_are_read_as_entries_and_as_attributes(source):
    network = build(resolve(f"{source}:Configured"), {"cfg": {"width": 3, "layers": [{"width": 5}]}})

    assert network.line.weight.shape == (5, 3)
    assert network.line.bias is None


def test_source_that_torch_hub_would_fetch_is_named(source, monkeypatch):
    def fetch(*_: object, **__: object) -> None:
        raise OSError("<urlopen error>")

    monkeypatch.setattr(torch.hub, "_get_cache_or_reload", fetch)

    with pytest.raises(ArchitectureError, match=r"torch.hub fetches the source.*torchvision.models or timm"):
        build(resolve(f"{source}:of_hub"), {})


def test_a_name_that_is_missing_is_explained_by_what_failed_in_its_file(source):
    with pytest.raises(ArchitectureError, match=r"'CLASSES' is not.*: line 75 failed: FileNotFoundError.*--arch-"):
        build(resolve(f"{source}:of_missing_data"), {})


def test_a_forward_that_wants_another_device_is_refused_with_its_line(source):
    network = build(resolve(f"{source}:OnCudaLater"), {})

    with pytest.raises(ConversionError, match=r"\(downloading_net.py:70, 'raise .*device=x.device"):
        call(network, {"x": torch.zeros(1)})
