"""A checkpoint's keys are brought to those of its network, and every change is recorded."""

import re

import msgspec
import pytest
import torch
import torchvision
from support.rebuilding import UNCHANGED, same
from torch import nn

import exporter
from exporter.architectures.rebuild import rebuild


@pytest.fixture(scope="module")
def resnet() -> dict[str, torch.Tensor]:
    """A small classifier's weights, every value its own."""
    tensors = torchvision.models.resnet18(num_classes=7).state_dict()
    return {key: torch.rand_like(value) if value.is_floating_point() else value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda key: key, {}),
        (lambda key: f"module.{key}", {"removed_prefix": "module."}),
        (lambda key: f"_orig_mod.module.model.{key}", {"removed_prefix": "_orig_mod.module.model."}),
        (lambda key: f"my_own.encoder.{key}", {"removed_prefix": "my_own.encoder."}),
        (lambda key: key.replace("layer1.", "layer1._orig_mod.module."), {"dropped": ("_orig_mod", "module")}),
        (
            lambda key: "net." + key.replace("layer2.0.", "layer2.0._orig_mod."),
            {"dropped": ("_orig_mod",), "removed_prefix": "net."},
        ),
    ],
)
def test_any_wrapping_is_solved_and_recorded(resnet, checkpoint_of, change, expected):
    rebuilt = rebuild("resnet18", {}, checkpoint_of({change(key): value for key, value in resnet.items()}))

    assert same(rebuilt, resnet)
    assert rebuilt.keys == msgspec.structs.replace(UNCHANGED, **expected)


def test_a_prefix_that_the_users_class_has_and_the_checkpoint_lacks_is_added(resnet, checkpoint_of):
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torchvision.models.resnet18(num_classes=7)

    rebuilt = rebuild(Mine, {}, checkpoint_of({f"module.{key}": value for key, value in resnet.items()}))

    assert same(rebuilt, {f"encoder.{key}": value for key, value in resnet.items()})
    assert (rebuilt.keys.removed_prefix, rebuilt.keys.added_prefix) == ("module.", "encoder.")


def test_what_is_left_beside_a_prefix_is_unexpected(resnet, checkpoint_of):
    tensors = {f"model.{key}": value for key, value in resnet.items()} | {"criterion.weight": torch.ones(7)}

    with pytest.raises(exporter.ArchitectureError, match=r"unexpected 1 \('criterion.weight' \[7\]\)"):
        rebuild("resnet18", {"num_classes": 7}, checkpoint_of(tensors))


def test_counters_that_old_checkpoints_lack_are_filled_in(resnet, checkpoint_of):
    old = {key: value for key, value in resnet.items() if "num_batches" not in key}

    rebuilt = rebuild("resnet18", {}, checkpoint_of(old))

    assert same(rebuilt, old)
    assert rebuilt.keys.filled_counters == 20


def test_a_running_mean_that_is_missing_is_not_filled_in(resnet, checkpoint_of):
    broken = {key: value for key, value in resnet.items() if key != "bn1.running_mean"}

    with pytest.raises(exporter.ArchitectureError, match=r"missing 1 \('bn1.running_mean'"):
        rebuild("resnet18", {}, checkpoint_of(broken))


def test_legacy_keys_of_densenet_are_renamed(checkpoint_of):
    tensors = torchvision.models.densenet121(num_classes=3).state_dict()
    legacy = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value for key, value in tensors.items()}
    assert legacy.keys() != tensors.keys()

    rebuilt = rebuild("densenet121", {}, checkpoint_of(legacy))

    assert same(rebuilt, tensors)
    first = "features.denseblock1.denselayer1"
    assert rebuilt.keys.renamed[f"{first}.norm.1.weight"] == f"{first}.norm1.weight"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_cast_and_said(resnet, checkpoint_of, dtype):
    cast = {key: value.to(dtype) if value.is_floating_point() else value for key, value in resnet.items()}

    rebuilt = rebuild("resnet18", {}, checkpoint_of(cast))

    expected = {key: value.to(resnet[key].dtype) for key, value in cast.items()}
    assert same(rebuilt, expected)
    assert rebuilt.keys.cast_from == (str(dtype).removeprefix("torch."),)
    is_half = dtype.itemsize == 2
    assert any("exported in float32" in sentence for sentence in rebuilt.assumptions) == is_half


def test_whole_numbers_where_weights_belong_are_refused(resnet, checkpoint_of):
    quantized = {**resnet, "fc.weight": resnet["fc.weight"].to(torch.int8)}

    with pytest.raises(exporter.ArchitectureError, match="expected float32, got int8"):
        rebuild("resnet18", {}, checkpoint_of(quantized))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.embed.weight


def test_a_tied_tensor_may_be_there_once(checkpoint_of):
    network = Tied()

    once = rebuild(Tied, {}, checkpoint_of({"embed.weight": network.embed.weight.detach()}))
    twice = rebuild(Tied, {}, checkpoint_of(network))

    assert torch.equal(once.network.out.weight, network.embed.weight)
    assert once.keys.tied == {"out.weight": "embed.weight"}
    assert twice.keys == UNCHANGED


def test_a_tied_tensor_with_two_values_is_refused(checkpoint_of):
    different = {"embed.weight": torch.zeros(5, 3), "out.weight": torch.ones(5, 3)}

    with pytest.raises(exporter.ArchitectureError, match=r"does not keep 1 of its tensors.*'embed.weight' \[5, 3\]"):
        rebuild(Tied, {}, checkpoint_of(different))


def test_a_nan_is_kept_and_is_no_difference(checkpoint_of):
    network = nn.Linear(3, 2)
    with torch.no_grad():
        network.weight[0, 0] = float("nan")

    assert rebuild(lambda: nn.Linear(3, 2), {}, checkpoint_of(network)).network.weight[0, 0].isnan()
