"""Constants as small as those that keep a division from failing are part of the graph."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from exporter.conversion import to_onnx as conversion
from exporter.conversion.to_onnx import to_onnx


class Standardize(nn.Module):
    """Rows by their own deviation, and a number that is not zero, as people write it."""

    def __init__(self, smallest: float) -> None:
        super().__init__()
        self.smallest = smallest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centered = x - x.mean(-1, keepdim=True)
        return centered / (centered.abs().mean(-1, keepdim=True) + self.smallest)


def of_equal_values(smallest: float) -> np.ndarray:
    """Return what the graph gives for rows whose deviation is zero."""
    example = {"x": torch.arange(10.0).view(2, 5)}
    converted = to_onnx(Standardize(smallest), example, outputs=["y"], dimensions={"x": {0: "batch"}})
    assert converted.exporter == "dynamo"
    session = onnxruntime.InferenceSession(converted.model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.ones((3, 5), np.float32)})[0]


@pytest.mark.parametrize("smallest", [1e-8, 1e-12])
def test_a_division_that_eager_keeps_from_failing_does_not_fail(smallest):
    assert np.array_equal(of_equal_values(smallest), np.zeros((3, 5)))


def test_a_rewriter_that_keeps_them_needs_no_help(monkeypatch):
    """Once this fails, onnxscript compares constants exactly: the module can go."""
    from contextlib import nullcontext

    monkeypatch.setattr(conversion, "small_constants_kept", nullcontext)

    assert np.isnan(of_equal_values(1e-8)).all()
