"""The legacy exporter steps in where dynamo fails, and the result says which one made it."""

import onnxruntime
import pytest
import torch
from torch import nn

import exporter
from exporter import to_onnx

NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
EXAMPLE = torch.rand(2, 3, 8, 8)


def convert() -> to_onnx.Converted:
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
