"""Weights one by one: what a conversion keeps, what it folds, and a row or a layer of another day."""

import copy

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils import parametrizations

from exporter.conversion.to_onnx import to_onnx
from exporter.conversion.to_torchscript import load_torchscript, to_torchscript, trace
from exporter.parity.weights import compare_weights


class Folded(nn.Module):
    """Layers that a batch norm is folded into, of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.wide = nn.ConvTranspose2d(6, 4, 2)
        self.norm2 = nn.BatchNorm2d(4)
        self.line = nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm2(self.wide(torch.relu(self.norm(self.first(x)))))
        return self.head(torch.relu(self.line(x.mean(dim=(2, 3)))))


class Words(nn.Module):
    """An embedding, and recurrent layers whose weights are joined and reordered."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4, padding_idx=0)
        self.reader = nn.LSTM(4, 5, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(10, 2, batch_first=True)
        self.head = nn.Linear(10, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states = self.reader(self.words(ids))[0]
        return self.head(self.attention(states, states, states)[0].mean(dim=1))


def graph_of(network: nn.Module, example: torch.Tensor, **axes: str) -> dict[str, np.ndarray]:
    dimensions = {"x": {int(axis.strip("_")): name for axis, name in axes.items()}}
    model = to_onnx(network, {"x": example}, outputs=["logits"], dimensions=dimensions).model
    return {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}


@pytest.fixture(scope="module")
def folded():
    torch.manual_seed(0)
    network = Folded()
    with torch.no_grad():
        for norm in (network.norm, network.norm2):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.uniform_(0.5, 2)
    network.eval()
    return network, graph_of(network, torch.randn(2, 3, 9, 9), _0="batch")


@pytest.fixture(scope="module")
def words():
    torch.manual_seed(0)
    network = Words().eval()
    return network, graph_of(network, torch.randint(0, 9, (2, 7)), _0="batch", _1="length")


def test_a_batch_norm_that_is_folded_into_its_layer_is_compared_with_it(folded):
    network, constants = folded
    assert "norm.weight" not in constants, "nothing is folded"

    check, left_out = compare_weights(network, constants, "model.onnx")

    assert check.fault is None, check.finding
    assert check.count == len([name for name in network.state_dict() if "num_batches" not in name])
    assert left_out == "", "the folding is repeated, to the last bit"


@pytest.mark.parametrize("name", ["first.weight", "wide.bias"])
def test_a_folded_layer_is_compared_to_the_last_bit(folded, name):
    network, constants = folded
    changed = constants[name].copy()
    changed.reshape(-1)[0] = np.nextafter(changed.reshape(-1)[0], np.float32(9))

    check, _ = compare_weights(network, {**constants, name: changed}, "model.onnx")

    layer = name.partition(".")[0]
    assert check.finding == f"the weights: '{layer}.weight': not what folding its batch norm gives, in the last bits"


def test_a_file_that_is_folded_in_a_way_of_its_own_says_how_closely_it_was_compared(folded):
    network, constants = folded
    names = ("first.weight", "wide.weight")
    others = {name: constants[name] * np.float32(1 + 2e-7) for name in names}

    check, left_out = compare_weights(network, {**constants, **others}, "model.onnx")

    assert check.fault is None, check.finding
    assert left_out == (
        "model.onnx: the last bits of 2 weights, as the conversion folds a batch norm into them: equal up to 1e-05: "
        "first.weight, wide.weight"
    )


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "normalize",
    [nn.utils.weight_norm, nn.utils.spectral_norm, parametrizations.weight_norm, parametrizations.spectral_norm],
    ids=["weight hook", "spectral hook", "weight parametrization", "spectral parametrization"],
)
def test_a_bias_is_compared_where_a_batch_norm_is_folded_into_a_weight_that_the_layer_computes(normalize):
    torch.manual_seed(0)
    network = nn.Sequential(normalize(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(54, 2))
    for _ in range(3):
        network(torch.randn(4, 3, 5, 5))
    network.eval()
    constants = graph_of(network, torch.randn(2, 3, 5, 5), _0="batch")
    assert not np.array_equal(constants["0.bias"], network[0].bias.detach()), "nothing is folded"

    check, left_out = compare_weights(network, constants, "model.onnx")
    stale, _ = compare_weights(network, {**constants, "0.bias": constants["0.bias"] + np.float32(0.1)}, "model.onnx")

    assert check.fault is None, check.finding
    assert "bias" not in left_out
    assert stale.finding.startswith("the weights: '0.bias': 6 of 6 numbers differ")


@pytest.mark.parametrize("named", [True, False])
def test_a_layer_that_the_forward_does_not_use_is_named_and_no_fault(folded, named):
    network, constants = folded
    whole = copy.deepcopy(network)
    whole.auxiliary = nn.Conv2d(3, 6, 3, bias=False)  # of the shape of one that is folded
    file = constants if named else {f"c{index}": array for index, array in enumerate(constants.values())}

    check, left_out = compare_weights(whole, file, "model.onnx")

    assert check.fault is None, check.finding
    assert "auxiliary.weight" in left_out


@pytest.mark.parametrize("named", [True, False])
def test_a_norm_that_begins_with_zeros_explains_its_own_layer(named):
    torch.manual_seed(0)
    network = nn.Sequential(*(layer for _ in range(2) for layer in (nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3))))
    with torch.no_grad():
        network[1].running_mean.uniform_(0.5, 2)
        network[3].weight.zero_()  # as residual networks begin
    network.eval()
    constants = graph_of(network, torch.randn(2, 3, 9, 9), _0="batch")
    file = constants if named else {f"c{index}": array for index, array in enumerate(reversed(constants.values()))}

    check, _ = compare_weights(network, file, "model.onnx")

    assert check.fault is None, check.finding


@pytest.mark.parametrize("name", ["first.weight", "wide.weight", "line.weight", "head.bias"])
def test_a_stale_layer_is_found_folded_or_not(folded, name):
    network, constants = folded
    other = {**constants, name: constants[name] * np.float32(1.001)}

    check, _ = compare_weights(network, other, "model.onnx")

    assert (check.fault, check.stage) == ("value", "network")
    assert f"'{name}'" in check.finding


def test_one_row_of_an_embedding_is_found(words):
    network, constants = words
    table = constants["words.weight"].copy()
    table[7] += 0.5
    for name in ("words.weight", "val_99"):  # by its name, and where the file keeps none
        others = {key: array for key, array in constants.items() if key != "words.weight"}
        check, _ = compare_weights(network, {**others, name: table}, "model.onnx")
        assert check.finding == "the weights: 'words.weight': 1 of 9 rows differ, the first is row 7"


def test_weights_that_are_reordered_are_compared_and_what_is_not_is_named(words):
    network, constants = words

    check, left_out = compare_weights(network, constants, "model.onnx")

    assert check.fault is None, check.finding
    assert left_out.endswith(": attention.out_proj.bias"), "which is 0"
    assert check.count == len(network.state_dict()) - 1


@pytest.mark.parametrize("name", ["reader.bias_ih_l0", "reader.bias_hh_l0_reverse"])
def test_one_gate_of_a_joined_bias_is_found(words, name):
    network, constants = words
    stale = Words().eval()
    stale.load_state_dict(network.state_dict())
    with torch.no_grad():
        stale.get_parameter(name)[7] += 0.25

    check, _ = compare_weights(stale, constants, "model.onnx")

    assert check.finding == f"the weights: '{name}': 1 of 4 gates differ, the first is gate 1"


def test_one_changed_row_of_a_reordered_matrix_is_found(words):
    network, constants = words
    recurrent = next(name for name, array in constants.items() if array.shape == (2, 20, 5))
    changed = constants[recurrent].copy()
    changed[1, 3] += 0.25

    check, _ = compare_weights(network, {**constants, recurrent: changed}, "model.onnx")

    assert "weight_hh_l0_reverse': 1 of 20 rows differ" in check.finding


def test_a_part_of_a_table_is_no_fault():
    """A graph of one length keeps as many rows of a table of positions."""

    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("places", torch.randn(50, 4))
            self.head = nn.Linear(4, 2)

    network = Placed().eval()
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    constants = {**state, "val_1": state.pop("places")[:7]}
    del constants["places"]

    check, left_out = compare_weights(network, constants, "model.onnx")

    assert check.fault is None, check.finding
    assert left_out.endswith(": places")


def test_the_constants_of_a_torchscript_archive_are_compared_without_names(folded, tmp_path):
    network, _ = folded

    def constants_of(exported: nn.Module) -> dict[str, np.ndarray]:
        class Whole(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = trace(exported, (torch.randn(2, 3, 9, 9),))

            def forward(self, x: torch.Tensor):
                return self.network(x)

        (tmp_path / "archive").write_bytes(to_torchscript(Whole().eval()))
        mapping = load_torchscript(tmp_path / "archive").code_with_constants[1].const_mapping
        return {name: value.numpy() for name, value in mapping.items()}

    check, left_out = compare_weights(network, constants_of(network), "model.torchscript")
    assert check.fault is None, check.finding
    assert check.count > 8, left_out
    assert "last bits" not in left_out, "freezing is repeated, to the last bit"

    stale = Folded().eval()
    stale.load_state_dict(network.state_dict())
    with torch.no_grad():
        stale.line.weight[2, 1] += 0.1
    check, _ = compare_weights(network, constants_of(stale), "model.torchscript")
    assert "'line.weight'" in check.finding


def test_types_that_numpy_lacks_and_numbers_that_are_not_numbers_are_compared():
    network = nn.Linear(3, 2)
    with torch.no_grad():
        network.weight[0, 0] = float("nan")
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    assert compare_weights(network, state, "model.onnx")[0].count == 2


@pytest.mark.parametrize(
    "normed", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm]
)
def test_what_a_layer_computes_its_weight_of_is_named_and_no_fault(normed):
    """A fresh weight norm gives nearly the weight that it is computed of: some rows are equal to the last bit."""
    torch.manual_seed(0)
    network = nn.Sequential(normed(nn.Conv2d(3, 16, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    network(torch.zeros(1, 3, 5, 5))  # the older spectral norm computes its weight in the forward
    computed = network[0].weight.detach().clone().numpy()
    original = next(name for name in network.state_dict() if name.endswith(("weight.original", "original1", "_orig")))
    computed[0, 0, 0] = network.state_dict()[original][0, 0, 0].numpy()

    check, sentence = compare_weights(network, {"0.weight": computed}, "model.onnx")

    assert check.fault is None, check.finding
    assert original in sentence


def test_a_sentence_names_the_three_largest_of_many_weights_that_are_not_compared():
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(6)))

    check, sentence = compare_weights(network, {}, "model.onnx")

    assert check.count == 0
    assert sentence.endswith("0.weight, 1.weight, 2.weight, and 9 more")
