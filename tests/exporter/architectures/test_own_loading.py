"""What load_state_dict(strict=True) takes is taken: the network's own hooks run before keys are compared."""

import warnings

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import exporter
from exporter.architectures.rebuild import rebuild
from exporter.architectures.select import choose_architecture
from exporter.checkpoint import read_checkpoint
from exporter.inspection import inspect_checkpoint


class Normed(nn.Module):
    """Its weights are normalized by torch's present parametrization."""

    def __init__(self) -> None:
        super().__init__()
        self.body = weight_norm(nn.Conv1d(2, 4, 3))


class Renamed(nn.Module):
    """It knows the names of its older checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.new, self.fc = nn.Linear(3, 2), nn.Linear(2, 2)
        self.register_load_state_dict_pre_hook(self._rename)

    @staticmethod
    def _rename(_module, state, prefix, *_rest):
        for name in ("weight", "bias"):
            if f"{prefix}old.{name}" in state:
                state[f"{prefix}new.{name}"] = state.pop(f"{prefix}old.{name}")


class Split(nn.Module):
    """Its older checkpoints had one matrix where it has two, and a version that says so."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version", 1) < 2:
            state[f"{prefix}first.weight"], state[f"{prefix}second.weight"] = state.pop(f"{prefix}both").chunk(2)
        super()._load_from_state_dict(state, prefix, metadata, *rest)


class Stateful(nn.Module):
    """It keeps more than tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.state = {"scale": 1.0, "steps": [torch.zeros(2)]}

    def get_extra_state(self):
        return self.state

    def set_extra_state(self, state):
        self.state = state


class Window(nn.Module):
    """It has a buffer that its constructor computes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.register_buffer("window", torch.hann_window(16))


@pytest.fixture
def saved(tmp_path):
    """Save a state dict as it is, with torch's versions of modules, and return its path."""

    def save(state):
        torch.save(state, tmp_path / "x.pth")
        return tmp_path / "x.pth"

    return save


@pytest.mark.parametrize("prefix", ["", "module.", "net.model."])
def test_keys_of_torchs_older_weight_norm_are_taken(saved, prefix):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.utils.weight_norm(nn.Conv1d(2, 4, 3))
    state = {f"{prefix}body.{key}": value for key, value in old.state_dict().items()}

    rebuilt = rebuild(Normed, {}, read_checkpoint(saved(state)))

    assert torch.equal(rebuilt.network.body.weight, old.weight)
    assert dict(rebuilt.keys.renamed) == {
        f"{prefix}body.weight_g": "body.parametrizations.weight.original0",
        f"{prefix}body.weight_v": "body.parametrizations.weight.original1",
    }


@pytest.mark.parametrize("prefix", ["", "module."])
def test_keys_that_a_hook_of_the_class_renames_are_taken(saved, prefix):
    weights = nn.Linear(3, 2)
    names = {**weights.state_dict(prefix="old."), **nn.Linear(2, 2).state_dict(prefix="fc.")}
    state = {f"{prefix}{key}": value for key, value in names.items()}

    rebuilt = rebuild(Renamed, {}, read_checkpoint(saved(state)))

    assert torch.equal(rebuilt.network.new.weight, weights.weight)
    assert rebuilt.keys.renamed[f"{prefix}old.weight"] == "new.weight"


def test_tensors_that_the_class_converts_are_recorded(saved):
    both = torch.rand(4, 3)

    rebuilt = rebuild(Split, {}, read_checkpoint(saved({"both": both})))

    assert torch.equal(rebuilt.network.second.weight, both[2:])
    assert rebuilt.keys.converted == ("both",)


def test_versions_of_modules_are_those_of_the_file(saved):
    # The file says version 2, of which the class converts nothing.
    state = Split().state_dict()
    del state["second.weight"]
    state["both"] = torch.rand(4, 3)

    with pytest.raises(exporter.ArchitectureError, match="does not fit"):
        rebuild(Split, {}, read_checkpoint(saved(state)))


def test_hooks_do_not_make_another_network_fit(saved):
    state = {**nn.Linear(3, 2).state_dict(prefix="other."), **nn.Linear(2, 2).state_dict(prefix="fc.")}

    with pytest.raises(exporter.ArchitectureError, match=r"missing 2 \('new\.weight'"):
        rebuild(Renamed, {}, read_checkpoint(saved(state)))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_extra_state_is_given_to_its_module(saved, prefix):
    network = Stateful()
    network.state = {"scale": 2.5, "steps": [torch.ones(2)], "name": "a"}
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}

    rebuilt = rebuild(Stateful, {}, read_checkpoint(saved(state)))

    assert rebuilt.network.state["scale"] == 2.5
    assert torch.equal(rebuilt.network.state["steps"][0], torch.ones(2))
    assert torch.equal(rebuilt.network.fc.weight, network.fc.weight)


def test_extra_state_of_a_foreign_class_is_refused_with_the_option_that_leaves_it_out(saved):
    network = Stateful()
    network.state = Recipe()
    path = saved(network.state_dict())

    with pytest.raises(exporter.CheckpointError, match=r"an object of '.*Recipe'.*--ignore-keys '_extra_state'"):
        rebuild(Stateful, {}, read_checkpoint(path))
    rebuilt = rebuild(Stateful, {}, read_checkpoint(path, ignore_keys=["_extra_state"]))
    assert rebuilt.network.state["scale"] == 1.0
    assert rebuilt.keys.ignored == ("_extra_state",)


class Recipe:
    """An object in a module's extra state."""


def test_whole_numbers_saved_as_floats_are_taken_and_fractions_are_not(saved):
    network = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2))
    state = {key: value.float() for key, value in network.state_dict().items()}
    state["1.num_batches_tracked"] += 7

    rebuilt = rebuild(lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2)), {}, read_checkpoint(saved(state)))

    assert rebuilt.network[1].num_batches_tracked == 7
    state["1.num_batches_tracked"] += 0.5
    with pytest.raises(exporter.ArchitectureError, match="another kind of values"):
        rebuild(lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2)), {}, read_checkpoint(saved(state)))


@pytest.fixture(scope="module")
def lightning():
    """A classifier's weights beside those of its loss."""
    network = torchvision.models.resnet18(num_classes=5)
    return {f"model.{key}": value for key, value in network.state_dict().items()} | {"criterion.weight": torch.ones(5)}


def test_one_key_too_many_is_named_with_the_option_that_leaves_it_out(saved, lightning):
    path = saved({"state_dict": lightning})
    option = r"--ignore-keys 'criterion\.\*'"

    with pytest.raises(exporter.ArchitectureError, match=rf"'resnet18'.* fit all tensors but 'criterion.*{option}"):
        choose_architecture(read_checkpoint(path))
    with pytest.raises(exporter.ArchitectureError, match=rf"unexpected 1 \('criterion\.weight' \[5\]\).*{option}"):
        rebuild("resnet18", {}, read_checkpoint(path))
    inspection = inspect_checkpoint(path)
    assert "resnet18" in [fit.architecture for fit in inspection.part_fits]
    assert inspection.left_out == ("criterion.weight",)


def test_keys_that_are_left_out_are_recorded(saved, lightning):
    checkpoint = read_checkpoint(saved({"state_dict": lightning}), ignore_keys=["criterion.*"])

    rebuilt = rebuild("resnet18", {}, checkpoint)

    assert rebuilt.keys.ignored == ("criterion.weight",)
    assert torch.equal(rebuilt.network.fc.weight, lightning["model.fc.weight"])


def test_a_pattern_that_stands_for_nothing_is_refused(saved):
    path = saved(nn.Linear(3, 2).state_dict())

    with pytest.raises(exporter.CheckpointError, match=r"no key 'critereon\.\*' to ignore: expected one of 'weight'"):
        rebuild(lambda: nn.Linear(3, 2), {}, read_checkpoint(path, ignore_keys=["critereon.*"]))


def test_a_missing_buffer_stays_as_the_constructor_fills_it_where_the_user_says_so(saved):
    state = nn.Linear(3, 2).state_dict(prefix="fc.")
    path = saved(state)

    with pytest.raises(exporter.ArchitectureError, match=r"Buffers alone are missing.*--ignore-keys 'window'"):
        rebuild(Window, {}, read_checkpoint(path))
    rebuilt = rebuild(Window, {}, read_checkpoint(path, ignore_keys=["window"]))
    assert torch.equal(rebuilt.network.window, torch.hann_window(16))
    assert rebuilt.keys.ignored == ("window",)


def test_a_missing_parameter_is_never_left_to_chance(saved):
    path = saved({"fc.weight": torch.rand(2, 3), "window": torch.rand(16)})

    with pytest.raises(exporter.ArchitectureError, match=r"missing 1 \('fc\.bias'"):
        rebuild(Window, {}, read_checkpoint(path, ignore_keys=["fc.bias"]))
