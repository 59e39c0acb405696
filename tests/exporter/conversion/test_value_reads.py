"""A forward that makes Python values of its input is refused with the line that does; shapes and weights are free."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import exporter
from exporter.conversion import to_onnx
from exporter.conversion.to_torchscript import trace
from exporter.conversion.value_reads import ValueRead, ValueReads, check_branches

EXAMPLE = {"x": torch.rand(2, 4, generator=torch.Generator().manual_seed(0)) + 0.1}


class Layers(nn.Module):
    """What the forwards below compute with."""

    def __init__(self, forward: Callable[["Layers", Tensor], Tensor]) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.gru = nn.GRU(4, 3, batch_first=True)
        self.gate = nn.Parameter(torch.tensor(0.5))
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def threshold(layers: Layers, x: Tensor) -> Tensor:
    if x.mean() < -1:
        x = x + 1
    return layers.head(x)


def gaps(layers: Layers, x: Tensor) -> Tensor:
    if torch.isnan(x).any():
        x = torch.nan_to_num(x)
    return layers.head(x)


def behind_a_guard(layers: Layers, x: Tensor) -> Tensor:
    if not torch.jit.is_tracing() and not torch.compiler.is_exporting() and x.min() < -1:
        x = x.clamp(min=-1)
    return layers.head(x)


def loop(layers: Layers, x: Tensor) -> Tensor:
    while x.abs().max() > 0.5:
        x = x / 2
    return layers.head(x)


def larger(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x) * max(x[0, 0], x[0, 1])


def truth(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x) if (x > 0.2).all().item() else layers.head(x) * 2


def membership(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x) * (2 if 0.0 in x else 1)


def equality(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x) * (2 if torch.equal(x[0], x[1]) else 1)


def through_a_constant(layers: Layers, x: Tensor) -> Tensor:
    sums = torch.zeros(4)
    sums[0] = x.sum()
    if sums.max() > 3:
        x = x + 1
    return layers.head(x)


def checked(layers: Layers, x: Tensor) -> Tensor:
    assert (x > -5).all(), "out of range"
    return layers.head(x)


def number(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x / x.max().item())


def whole_number(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x)[:, : 1 + int(x.sum() > 0)]


def real_number(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x) * float(x.max())


def position(layers: Layers, x: Tensor) -> Tensor:
    return [layers.head, nn.Identity()][x.argmax() * 0](x)


def numbers(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x) * torch.tensor(x[:, :1].tolist())


def array(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x) * torch.from_numpy(np.sin(x.numpy()))[:, :1]


def array_function(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x) * float(np.mean(np.asarray(x)))


def count(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x + 1 if len(x[x > 0.5]) > 1 else x)


def each_selected(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x) + sum(value for value in x[x > 0.5])


DECIDE = (threshold, gaps, behind_a_guard, loop, larger, truth, membership, equality, through_a_constant)
TAKE_OUT = (number, whole_number, real_number, position, numbers, array, array_function, count, each_selected)


def shapes(layers: Layers, x: Tensor) -> Tensor:
    ones = torch.ones_like(x).sum()
    if len(x) > 1 and x.shape[1] == 4 and x.numel() > torch.tensor(x.shape[0]) and ones > 0:
        x = x * int(ones)
    return layers.head(x)


def weights(layers: Layers, x: Tensor) -> Tensor:
    if layers.gate > 0 and not torch.isnan(layers.head.weight).any():
        x = x * layers.gate.item()
    return layers.head(x)


def constants(layers: Layers, x: Tensor) -> Tensor:
    steps = torch.linspace(0, 1, 4).tolist()
    return layers.head(x) * steps[2] if torch.arange(3).max() == 2 else x


def selection(layers: Layers, x: Tensor) -> Tensor:
    y = x.clone()
    y[y < 0.3] = 0
    return layers.head(torch.where(x.mean() < -1, y, x)) + x[x > 0.5].sum()


def sliced(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x)[:, : (x.sum() > 0).long() + 1]


def packed(layers: Layers, x: Tensor) -> Tensor:
    lengths = (x[:, 0] * 0 + 2).long()
    steps = nn.utils.rnn.pack_padded_sequence(
        x[:, None].expand(2, 3, 4), lengths, batch_first=True, enforce_sorted=False
    )
    return layers.gru(steps)[1][0]


def distribution(layers: Layers, x: Tensor) -> Tensor:
    return torch.distributions.Normal(layers.head(x), 1.0, validate_args=True).mean


def printed(layers: Layers, x: Tensor) -> Tensor:
    assert f"{x.mean()}"
    return layers.head(x)


FREE = (shapes, weights, constants, selection, sliced, packed, distribution, printed)


def line_of(forward: Callable[..., Tensor], text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(number for number in range(forward.__code__.co_firstlineno, len(lines)) if text in lines[number]) + 1


@pytest.mark.parametrize("forward", DECIDE)
def test_a_branch_on_values_is_refused(forward):
    with pytest.raises(exporter.ConversionError, match=r"branches on computed values at .*torch\.where.*torch\.cond"):
        check_branches(Layers(forward), EXAMPLE)


@pytest.mark.parametrize("forward", TAKE_OUT)
def test_values_that_leave_their_tensors_are_refused(forward):
    with pytest.raises(exporter.ConversionError, match=r"takes computed values out .*the tensor itself"):
        check_branches(Layers(forward), EXAMPLE)


@pytest.mark.parametrize("forward", FREE)
def test_shapes_weights_and_operators_are_no_reads_of_values(forward):
    network, inputs = Layers(forward).eval(), tuple(EXAMPLE.values())

    check_branches(network, EXAMPLE)
    with torch.no_grad(), ValueReads(inputs) as reads, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, inputs, check_trace=False)

    assert reads.found == []


def test_the_error_names_the_line_and_shows_it():
    line = line_of(gaps, "isnan")

    with pytest.raises(exporter.ConversionError) as refused:
        check_branches(Layers(gaps), EXAMPLE)

    assert f"test_value_reads.py:{line}, 'if torch.isnan(x).any():'" in str(refused.value)


def test_a_check_of_values_has_advice_of_its_own():
    with pytest.raises(exporter.ConversionError, match=r"checks computed values .* leave the check out"):
        check_branches(Layers(checked), EXAMPLE)


def count_of_selected(layers: Layers, x: Tensor) -> Tensor:
    """In eager this is a comparison of two numbers of Python: a trace alone shows that one of them is computed."""
    return layers.head(x + 1 if x[x > 0.5].shape[0] > 1 else x)


@pytest.mark.parametrize("forward", [threshold, number, count_of_selected])
def test_a_trace_that_keeps_values_of_its_example_is_refused(forward):
    with pytest.raises(exporter.ConversionError, match=r"computed values .*at .*test_value_reads\.py:\d+"):
        trace(Layers(forward).eval(), tuple(EXAMPLE.values()))


def test_a_branch_that_only_a_trace_shows_is_no_fallback():
    with pytest.raises(exporter.ConversionError, match=r"branches on computed values at .*test_value_reads\.py"):
        to_onnx.to_onnx(Layers(count_of_selected).eval(), EXAMPLE, outputs=["y"], dimensions={"x": {0: "batch"}})


def test_a_line_of_an_installed_package_is_not_for_the_user_to_change():
    read = ValueRead(
        operation="item()", decides=True, file="transformers/x.py", line=3, code="if a.any():", library=True
    )

    assert str(read.refusal(nn.Identity())).endswith(
        "The line is an installed package's: look for a setting of the model that leaves it out, for another version "
        "of the package, or override the method."
    )


def test_torch_cond_is_the_remedy_that_it_says():
    class Chosen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cond(x.mean() < 0, lambda y: self.head(y), lambda y: self.head(y) * 2, (x,))

    check_branches(Chosen().eval(), EXAMPLE)
