"""Arrays that are drawn for a network: whole numbers in the range of what they index."""

import numpy as np
import pytest
import torch
from msgspec import UNSET
from torch import nn

from exporter.conversion.network_io import call
from exporter.inputs.tensor.adapter import TensorAdapter, read_input


class Categories(nn.Module):
    """Category numbers in the first two columns, whatever the type of the array."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Embedding(300, 2), nn.Embedding(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        index = x[:, :2].long()
        return torch.cat([self.first(index[:, 0]), self.second(index[:, 1]), x[:, 2:].float()], dim=1)


@pytest.mark.parametrize("dtype", ["int64", "float32", "uint8"])
def test_whole_numbers_are_drawn_from_the_range_of_what_they_index(dtype):
    network = Categories()
    adapter = TensorAdapter(
        [read_input(f"x={dtype}[batch,4]")], samples=None, lengths={}, probe=lambda tensors: call(network, tensors)
    )

    rows = np.concatenate([adapter.decode(case)["x"] for case in adapter.cases()])

    assert len(rows) == 13
    assert adapter.skipped_samples == ()
    (spec,) = adapter.inputs
    signs = UNSET if dtype == "uint8" else (True, True, False, False)
    assert spec.not_negative == signs, "a graph would count them from the end"
    if dtype != "uint8":  # which has no number that is outside of the 300
        assert (rows[:, 0].min(), rows[:, 0].max()) == (0, 299)
    assert set(rows[:, 1]) == {0, 1}
    if dtype == "float32":
        assert (rows[:-1, 2:] != rows[:-1, 2:].round()).all()
