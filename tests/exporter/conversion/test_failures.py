"""What a failed conversion says follows from the failure: a length that the graph does not follow, or an operator."""

import pytest
import torch
from torch import Tensor, nn

import exporter
from exporter.architectures.registry import Logits, MovedBatch
from exporter.backends.torchscript import NetworkPipeline
from exporter.conversion import decoder_loop, to_onnx
from exporter.conversion.failures import OtherLengthError, reason_of, remedy_of
from exporter.conversion.network_io import Flat, name_of
from exporter.inputs.composite.part_network import PartNetwork


class BranchOnLength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x * 2 if x.shape[1] % 7 == 3 else x).mean(1)


def test_a_branch_on_a_length_is_refused_as_one():
    inputs = [{"x": torch.rand(2, length, 4, generator=torch.Generator().manual_seed(length))} for length in (4, 5, 10)]
    network = Flat(BranchOnLength(), ["x"], whole=False).eval()

    with pytest.raises(exporter.ConversionError) as refused:
        to_onnx.to_onnx(
            network,
            inputs[0],
            outputs=["y"],
            dimensions={"x": {0: "batch", 1: "length"}},
            validation_inputs=inputs,
        )

    assert str(refused.value).startswith("'BranchOnLength': torch.onnx cannot export it: its graph is ")
    assert "computes otherwise for other lengths, as behind a branch on a shape" in str(refused.value)
    assert "Replace the operation" not in str(refused.value)


def test_an_operator_that_is_missing_is_to_be_replaced():
    inner = RuntimeError("translating node %m : call_function[target=torch.ops.aten.median](x)")
    inner.__cause__ = NotImplementedError("No ONNX function found. [Caused by x]")

    assert reason_of(inner) == "operator 'aten.median': NotImplementedError: No ONNX function found"
    assert "other lengths" in remedy_of(inner, RuntimeError("Got invalid dimensions for input: x"))
    assert remedy_of(inner, ValueError("x")) == "Replace the operation that it names, or upgrade torch."
    assert reason_of(OtherLengthError("its graph is off")) == "its graph is off"


def test_an_opset_that_is_too_old_is_to_be_replaced_by_the_one_that_is_needed():
    failure = exporter.ConversionError("it needs opset 18")

    assert remedy_of(failure, ValueError("x")) == "Pass --opset 18, or leave --opset out."


def test_the_name_is_that_of_the_users_class():
    assert name_of(Flat(Flat(BranchOnLength(), ["x"], whole=False), ["x"], whole=False)) == "BranchOnLength"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda network: NetworkPipeline(Flat(network, ["x"], whole=False), None),
        lambda network: Flat(decoder_loop._Encoder(network), ["x"], whole=True),
        lambda network: decoder_loop._DecoderStep(Logits(network)),
        lambda network: PartNetwork(MovedBatch(network, {"x": 1}), "x", lambda: ()),
    ],
    ids=["pipeline", "encoder", "step", "part"],
)
def test_a_message_names_the_users_network_whatever_is_around_it(wrap):
    assert name_of(wrap(BranchOnLength())) == "BranchOnLength"
