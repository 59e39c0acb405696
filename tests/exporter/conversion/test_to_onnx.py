"""The legacy exporter steps in where dynamo fails, and the result says which one made it."""

import onnxruntime
import pytest
import torch
from torch import nn

import exporter
from exporter.conversion import to_onnx

NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
EXAMPLE = torch.rand(2, 3, 8, 8)


def convert() -> to_onnx.ConvertedNetwork:
    return to_onnx.to_onnx(
        NETWORK, {"normalized": EXAMPLE}, outputs=["logits"], dimensions={"normalized": {0: "batch"}}
    )


def broken(network: nn.Module, *_: object) -> None:
    raise RuntimeError("cannot export this operator.")


@pytest.mark.parametrize("maker", ["dynamo", "legacy"])
def test_either_exporter_gives_the_networks_answers_at_every_batch_size(maker, monkeypatch):
    if maker == "legacy":
        monkeypatch.setattr(to_onnx, "_dynamo", broken)

    converted = convert()

    assert converted.exporter == maker
    assert converted.fallback == ("" if maker == "dynamo" else "RuntimeError: cannot export this operator")
    session = onnxruntime.InferenceSession(converted.model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 3, 7):
        images = torch.rand(batch, 3, 8, 8)
        with torch.no_grad():
            expected = NETWORK(images).numpy()
        assert session.run(["logits"], {"normalized": images.numpy()})[0] == pytest.approx(expected, abs=1e-5)


def test_where_both_fail_the_error_has_both_reasons(monkeypatch):
    monkeypatch.setattr(to_onnx, "_dynamo", broken)
    monkeypatch.setattr(to_onnx, "_legacy", broken)

    with pytest.raises(exporter.ConversionError, match=r"cannot export this operator \(legacy exporter: RuntimeError"):
        convert()


class GroupsOfTheBatch(nn.Module):
    """As CondConv has it: the number of groups is the batch's, which no Conv of ONNX can have."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        batch = images.shape[0]
        weight = torch.ones(3, 1, 1, 1).repeat(batch, 1, 1, 1)
        return nn.functional.conv2d(images.reshape(1, -1, 8, 8), weight, groups=3 * batch).reshape(images.shape)


def test_what_cannot_be_exported_is_one_sentence_that_names_the_operator_and_nothing_is_printed(capfd):
    with pytest.raises(
        exporter.ConversionError, match=r"operator 'aten\.conv2d': TypeError: .*kernel of unknown"
    ) as found:
        to_onnx.to_onnx(GroupsOfTheBatch(), {"x": EXAMPLE}, outputs=["y"], dimensions={"x": {0: "batch"}})

    assert "\n" not in str(found.value)
    assert "\x1b" not in str(found.value)
    assert capfd.readouterr() == ("", "")


class Variadic(nn.Module):
    """As wrappers have it, such as those of transformers' models: any number of inputs, of which it gets one."""

    def __init__(self) -> None:
        super().__init__()
        self.network = NETWORK

    def forward(self, *inputs: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        return self.network(*inputs, **named)


def test_a_forward_that_takes_any_number_of_inputs_needs_no_fallback():
    converted = to_onnx.to_onnx(Variadic().eval(), {"x": EXAMPLE}, outputs=["y"], dimensions={"x": {0: "batch"}})

    assert (converted.exporter, converted.fallback) == ("dynamo", "")
    assert converted.shapes == {"y": ("batch", 5)}


class Attention(nn.Module):
    """Attention with other dimensions than [batch, heads, length, width]: windows, or none but the batch."""

    def __init__(self, *windows: int, masked: bool = False) -> None:
        super().__init__()
        self.windows, self.masked, self.lines = windows, masked, nn.Linear(8, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        query, key, value = self.lines(x).reshape(batch, *self.windows, -1, 24).chunk(3, dim=-1)
        mask = torch.tanh(query.mean(dim=-1, keepdim=True)) if self.masked else None
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended.reshape(batch, -1, 8).mean(dim=1)


@pytest.mark.parametrize(("windows", "masked"), [((2, 3), False), ((2, 3), True), ((), False)])
def test_attention_of_any_number_of_dimensions_needs_no_fallback(windows, masked):
    network = Attention(*windows, masked=masked).eval()
    others = [{"x": torch.randn(batch, 12, 8)} for batch in (1, 3)]

    converted = to_onnx.to_onnx(
        network,
        {"x": torch.randn(2, 12, 8)},
        outputs=["y"],
        dimensions={"x": {0: "batch"}},
        validation_inputs=others,
    )

    assert (converted.exporter, converted.fallback) == ("dynamo", "")


class NumbersBesideWholeNumbers(nn.Module):
    """Masks and ids beside numbers, and one that is made of a length."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        length = ids.shape[1]
        outputs = [1.0 - (ids > 0).long(), torch.rsub(ids, 0.1, alpha=2), (length - 1) / 2 - ids]
        outputs += [ids // 2.5, -7 // (ids.abs() + 1), 5.5 // (ids.abs() + 1), length // (ids.abs() + 1)]
        return torch.stack([output.float() for output in outputs])


def test_numbers_beside_tensors_of_whole_numbers_need_no_fallback():
    network = NumbersBesideWholeNumbers().eval()
    ids = torch.arange(-9, 9).reshape(2, 9)

    converted = to_onnx.to_onnx(network, {"ids": ids}, outputs=["y"], dimensions={"ids": {0: "batch", 1: "length"}})

    assert (converted.exporter, converted.fallback) == ("dynamo", "")
    session = onnxruntime.InferenceSession(converted.model.SerializeToString(), providers=["CPUExecutionProvider"])
    for other in (ids, ids[:1, :5], ids.T.contiguous()):
        actual = session.run(["y"], {"ids": other.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(actual), network(other), rtol=0, atol=0)


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if bool(x.mean() > 0) else x


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:FutureWarning", "ignore:`torch.jit.script`:DeprecationWarning")
def test_what_torch_jit_compiled_is_named_as_the_cause():
    network = nn.Sequential(nn.Linear(4, 4), torch.jit.script(Doubled()), nn.Linear(4, 3)).eval()

    with pytest.raises(exporter.ConversionError, match=r"cannot follow what torch\.jit compiled: 1\. Build it of"):
        to_onnx.to_onnx(network, {"x": torch.rand(2, 4)}, outputs=["y"], dimensions={"x": {0: "batch"}})
