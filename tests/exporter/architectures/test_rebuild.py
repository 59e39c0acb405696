"""A network is rebuilt with every tensor of its checkpoint, or not at all."""

import argparse

import pytest
import timm
import torch
import torchvision
import transformers
from support.rebuilding import same
from torch import nn

import exporter
from exporter.architectures.rebuild import rebuild
from exporter.architectures.registry import without_parallel
from exporter.checkpoint import read_checkpoint


@pytest.mark.parametrize(
    "name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5"]
)
@pytest.mark.parametrize("classes", [7, 1000])
def test_torchvisions_number_of_classes_comes_from_the_head(name, classes, checkpoint_of):
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


def test_a_name_may_be_a_function_or_a_method(tmp_path, checkpoint_of):
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


def test_a_file_finds_the_files_beside_it_and_hides_no_package(tmp_path, checkpoint_of):
    (tmp_path / "parts_beside.py").write_text("WIDTH = 3\n")
    (tmp_path / "json.py").write_text(
        "from torch import nn\nfrom parts_beside import WIDTH\nmake = lambda: nn.Linear(WIDTH, 2)\n"
    )

    rebuild(f"{tmp_path / 'json.py'}:make", {}, checkpoint_of(nn.Linear(3, 2)))

    import json

    assert json.loads("1") == 1


def test_keys_that_do_not_fit_are_listed_by_kind(checkpoint_of):
    tensors = dict(torchvision.models.resnet18().state_dict())
    del tensors["bn1.bias"]
    tensors["extra.weight"] = torch.zeros(2, 3)
    tensors["conv1.weight"] = torch.zeros(64, 3, 5, 5)

    with pytest.raises(exporter.ArchitectureError) as caught:
        rebuild("resnet18", {}, checkpoint_of(tensors))
    message = str(caught.value)

    assert "expected 122 tensors, 120 match" in message
    assert "missing 1 ('bn1.bias' [64])" in message
    assert "unexpected 1 ('extra.weight' [2, 3])" in message
    assert "other shape 1 ('conv1.weight' expected [64, 3, 7, 7], got [64, 3, 5, 5])" in message


@pytest.mark.parametrize(
    ("name", "tensors", "remedy"),
    [
        ("model-00001-of-00003.pth", {"weight": torch.zeros(2, 2)}, "one of 3 files of a checkpoint. Pass the folder"),
        ("rank0.pth", {"_flat_param": torch.zeros(6)}, "one rank of FSDP holds.*get_model_state_dict"),
    ],
)
def test_a_piece_of_a_checkpoint_is_called_that(tmp_path, name, tensors, remedy):
    torch.save(tensors, tmp_path / name)
    network = nn.Linear(2, 2)

    with pytest.raises(exporter.ArchitectureError, match=remedy):
        rebuild(network, {}, read_checkpoint(tmp_path / name))


def test_a_long_list_ends_in_a_count(checkpoint_of):
    with pytest.raises(exporter.ArchitectureError, match="and 90 more"):
        rebuild("resnet18", {}, checkpoint_of(nn.Linear(2, 2)))


NEAR = {
    "resnet19": "'resnet18'",
    "ResNet50": "'resnet50'",
    "efficientnet_b9": "'efficientnet_b",
    "torchvision.models.resnet18": "'resnet18'",
}


@pytest.mark.parametrize(("name", "near"), NEAR.items())
def test_an_unknown_name_gets_the_nearest(name, near, checkpoint_of):
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
def test_a_reference_that_leads_nowhere_says_where_it_stops(reference, reason, checkpoint_of):
    with pytest.raises(exporter.ArchitectureError, match=reason):
        rebuild(reference, {}, checkpoint_of(nn.Linear(2, 2)))


def test_a_file_that_does_not_import_shows_its_own_error(tmp_path, checkpoint_of):
    broken = tmp_path / "broken_net.py"
    broken.write_text("raise ValueError('no dice')\n")

    with pytest.raises(exporter.ArchitectureError, match="ValueError: no dice"):
        rebuild(f"{broken}:Net", {}, checkpoint_of(nn.Linear(2, 2)))


def with_head(name: str, place: str, head: nn.Module) -> nn.Module:
    network = torchvision.models.get_model(name)
    parent, _, last = place.rpartition(".")
    setattr(network.get_submodule(parent), last, head)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "place", "head"),
    [
        ("resnet18", "fc", nn.Linear(512, 10)),
        ("resnet18", "fc", nn.Sequential(nn.Dropout(), nn.Linear(512, 10))),
        ("resnet18", "fc", nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(512, 10))),
        ("resnet18", "fc", nn.Linear(512, 10, bias=False)),
        ("mobilenet_v2", "classifier", nn.Linear(1280, 10)),
        ("mobilenet_v2", "classifier.1", nn.Sequential(nn.Dropout(), nn.Linear(1280, 10))),
        ("mobilenet_v3_small", "classifier", nn.Linear(576, 10)),
        ("mobilenet_v3_small", "classifier.3", nn.Sequential(nn.Dropout(), nn.Linear(1024, 10))),
        ("vgg11", "classifier", nn.Sequential(nn.Dropout(), nn.Linear(25088, 10))),
        ("vgg11", "classifier", nn.Sequential(nn.Linear(25088, 10))),
        ("squeezenet1_1", "classifier.1", nn.Conv2d(512, 10, 1)),
    ],
)
def test_a_head_of_one_layer_gives_the_fine_tuned_networks_answers(name, place, head, checkpoint_of):
    network = with_head(name, place, head)
    images = torch.rand(2, 3, 64, 64)

    rebuilt = rebuild(name, {}, checkpoint_of(network))

    with torch.no_grad():
        assert torch.equal(rebuilt.network(images), network(images))


def test_a_head_of_two_layers_is_refused_with_what_to_do(checkpoint_of):
    head = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))

    with pytest.raises(exporter.ArchitectureError, match=r"'fc.0' \[64, 512\], 'fc.2' \[10, 64\].*--arch FILE.py:NAME"):
        rebuild("resnet18", {}, checkpoint_of(with_head("resnet18", "fc", head)))


def test_a_stem_of_another_number_of_channels_is_rebuilt(checkpoint_of):
    network = with_head("resnet18", "conv1", nn.Conv2d(1, 64, 7, 2, 3, bias=False))
    images = torch.rand(2, 1, 64, 64)

    rebuilt = rebuild("resnet18", {}, checkpoint_of(network))

    assert rebuilt.keys.replaced == {"conv1": "1 input channels"}
    with torch.no_grad():
        assert torch.equal(rebuilt.network(images), network(images))


def test_a_stem_whose_kernel_differs_does_not_fit(checkpoint_of):
    network = with_head("resnet18", "conv1", nn.Conv2d(3, 64, 3, bias=False))

    with pytest.raises(exporter.ArchitectureError, match=r"other shape 1 \('conv1.weight'"):
        rebuild("resnet18", {}, checkpoint_of(network))


@pytest.mark.parametrize("auxiliary", [True, False])
def test_auxiliary_heads_may_be_there_or_not(auxiliary, checkpoint_of):
    network = torchvision.models.googlenet(num_classes=4, aux_logits=auxiliary, init_weights=False)

    rebuilt = rebuild("googlenet", {}, checkpoint_of(network))

    assert rebuilt.arguments == ({"num_classes": 4} if auxiliary else {"aux_logits": False, "num_classes": 4})
    assert same(rebuilt, network.state_dict())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("regnet_y_400mf", {}),
        ("fcn_resnet50", {"weights_backbone": None}),
        ("ssdlite320_mobilenet_v3_large", {"weights_backbone": None}),
        ("retinanet_resnet50_fpn", {"weights_backbone": None}),
        ("r3d_18", {}),
    ],
)
def test_other_tasks_and_what_the_meta_device_cannot_build(name, options, checkpoint_of):
    network = torchvision.models.get_model(name, num_classes=4, **options)

    assert same(rebuild(name, {}, checkpoint_of(network)), network.state_dict())


def test_timm_takes_its_sizes_from_the_tensors(checkpoint_of):
    network = timm.create_model("resnet10t", num_classes=9, in_chans=1).eval()

    rebuilt = rebuild("timm:resnet10t", {}, checkpoint_of(network))

    assert rebuilt.arguments == {"in_chans": 1, "num_classes": 9}
    assert rebuilt.reference == "timm:resnet10t"
    assert same(rebuilt, network.state_dict())


def test_timm_without_a_head_and_with_one_behind_dropout(checkpoint_of):
    headless = timm.create_model("resnet10t", num_classes=0)
    behind = timm.create_model("resnet10t", num_classes=5)
    behind.fc = nn.Sequential(nn.Dropout(), nn.Linear(behind.num_features, 5))

    assert rebuild("timm:resnet10t", {}, checkpoint_of(headless)).arguments == {"num_classes": 0}
    assert rebuild("timm:resnet10t", {}, checkpoint_of(behind)).keys.renamed == {
        "fc.1.weight": "fc.weight",
        "fc.1.bias": "fc.bias",
    }


def test_an_unknown_timm_name_gets_the_nearest(checkpoint_of):
    with pytest.raises(exporter.ArchitectureError, match=r"unknown architecture.*'resnet18'"):
        rebuild("timm:resnet_18", {}, checkpoint_of(nn.Linear(2, 2)))


def test_a_hugging_face_folder_is_rebuilt_from_its_config(tmp_path):
    image = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
    )
    text = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=3
        )
    )
    for name, network, example in (
        ("image", image, torch.rand(2, 3, 32, 32)),
        ("text", text, torch.randint(0, 20, (2, 5))),
    ):
        folder = tmp_path / name
        network.eval().save_pretrained(folder)
        checkpoint = read_checkpoint(folder)

        rebuilt = rebuild(f"hf:{folder}", {}, checkpoint)

        assert checkpoint.format == "huggingface"
        assert rebuilt.keys.added_prefix == "model."
        with torch.no_grad():
            assert torch.equal(rebuilt.network(example), network(example).logits)


def test_a_folder_of_another_task_is_refused(tmp_path, checkpoint_of):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertForMaskedLM"]}')

    with pytest.raises(exporter.ArchitectureError, match="got 'BertForMaskedLM'"):
        rebuild(f"hf:{tmp_path}", {}, checkpoint_of(nn.Linear(2, 2)))


def test_a_module_instance_is_an_architecture_and_stays_as_it_is(tmp_path, checkpoint_of):
    source = tmp_path / "instance_net.py"
    source.write_text("from torch import nn\nnetwork = nn.Linear(3, 2)\n")
    trained = nn.Linear(3, 2)

    first = rebuild(f"{source}:network", {}, checkpoint_of(trained))
    second = rebuild(nn.Linear(3, 2), {}, checkpoint_of(trained))

    assert same(first, trained.state_dict())
    assert same(second, trained.state_dict())


def test_the_architecture_that_would_fit_is_named(checkpoint_of):
    with pytest.raises(exporter.ArchitectureError, match="These tensors fit 'resnet34'"):
        rebuild("resnet18", {}, checkpoint_of(torchvision.models.resnet34(num_classes=5)))


def test_wrappers_that_spread_a_network_over_devices_are_taken_off_wherever_they_are():
    inner = nn.Linear(3, 2)
    network = nn.DataParallel(nn.Sequential(nn.DataParallel(inner), nn.ReLU()))

    plain = without_parallel(network)

    assert not any(isinstance(module, nn.DataParallel) for module in plain.modules())
    assert plain[0] is inner


def test_arguments_that_a_checkpoint_records_are_named_where_it_does_not_fit(tmp_path, checkpoint_of):
    source = tmp_path / "recorded_net.py"
    source.write_text(
        "from torch import nn\ndef make(width=3, name='a'): return nn.Linear(width, 2)\n"
        "def need(args): return nn.Linear(args.width, 2)\n"
    )
    settings = argparse.Namespace(width=4, lr=0.1, name="a", path=tmp_path)
    checkpoint = checkpoint_of({"state_dict": nn.Linear(4, 2).state_dict(), "args": settings})

    with pytest.raises(exporter.ArchitectureError, match=r"records other arguments: pass --arch-arg 'width=4'\.$"):
        rebuild(f"{source}:make", {}, checkpoint)
    with pytest.raises(
        exporter.ArchitectureError, match=r"""records arguments: --arch-arg 'args=\{"width": 4, "lr": 0"""
    ):
        rebuild(f"{source}:need", {}, checkpoint)

    assert rebuild(f"{source}:need", {"args": dict(checkpoint.settings)}, checkpoint).network.in_features == 4


def test_a_lightning_module_gets_the_arguments_that_its_checkpoint_records(checkpoint_of):
    class LightningModule(nn.Module):
        """Of the name that it is known by."""

    class Lit(LightningModule):
        def __init__(self, width: int = 3, lr: float = 0.1):
            super().__init__()
            self.line = nn.Linear(width, 2)

    saved = {
        "state_dict": Lit(5).state_dict(),
        "pytorch-lightning_version": "2",
        "hyper_parameters": {"width": 5, "o": 1},
    }

    assert rebuild(Lit, {}, checkpoint_of(saved)).arguments == {"width": 5}
    with pytest.raises(exporter.ArchitectureError, match="expected"):
        rebuild(Lit, {"width": 4}, checkpoint_of(saved))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (
            ("base_layer.weight", "lora_A.default.weight", "lora_B.default.weight"),
            r"adapters of LoRA.*merge_and_unload",
        ),
        (("parametrizations.weight.original0", "bias"), r"applies weight_norm, spectral_norm or another"),
        (("weight_g", "weight_v", "bias"), r"applies weight_norm, spectral_norm or another"),
    ],
)
def test_layers_that_are_not_plain_in_a_checkpoint_are_named(checkpoint_of, keys, reason):
    tensors = {f"0.{key}": torch.zeros(3, 3) for key in keys}

    with pytest.raises(exporter.ArchitectureError, match=reason):
        rebuild(lambda: nn.Sequential(nn.Linear(3, 3)), {}, checkpoint_of(tensors))


class OfBatch(nn.Linear):
    """It takes what a data loader gives: a dictionary."""

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
        return super().forward(batch["pixels"])


def test_a_forward_that_takes_a_dictionary_of_one_tensor_is_given_the_tensor(checkpoint_of):
    source = OfBatch(3, 2)
    x = torch.ones(1, 3)

    network = rebuild(lambda: OfBatch(3, 2), {}, checkpoint_of(source)).network

    assert torch.equal(network(x), source({"pixels": x}))
