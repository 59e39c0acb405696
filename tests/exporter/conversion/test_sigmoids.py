"""Which outputs are values of a sigmoid, whatever carries them there."""

import numpy as np
import pytest
import torch
from torch import nn

from exporter.conversion.sigmoids import SigmoidWatch

SIGMOIDS = {
    "function": torch.sigmoid,
    "module": nn.Sigmoid(),
    "in place": lambda x: x.clone().sigmoid_(),
    "special": torch.special.expit,
    "a view": lambda x: torch.sigmoid(x).reshape(-1)[2:5],
    "both classes": lambda x: torch.cat([torch.sigmoid(-x), torch.sigmoid(x)], dim=1),
    "of half precision": lambda x: torch.sigmoid(x.half()).float(),
    "of a part": lambda x: torch.sigmoid(x).index_select(1, torch.tensor([1, 0])),
    "traced": lambda x: torch.jit.trace(torch.sigmoid, torch.zeros(1))(x),
}
OTHERS = {
    "logits": lambda x: x * 2,
    "inside": lambda x: torch.sigmoid(x) * x,
    "softmax": lambda x: x.softmax(dim=1),
    "tanh": torch.tanh,
    "beside something else": lambda x: torch.cat([torch.sigmoid(x), x], dim=1),
    "input in its memory before": lambda x: x.clone(),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", [*SIGMOIDS, *OTHERS])
def test_values_of_sigmoids_are_known_from_others(name):
    x = torch.randn(2, 3)
    expected = name in SIGMOIDS
    function = {**SIGMOIDS, **OTHERS}[name]
    with torch.no_grad(), SigmoidWatch() as watch:
        value = function(x)

    assert watch.made(value) is expected
    assert watch.made(value.numpy()) is expected
    assert not watch.made(x)
    assert not watch.made(np.zeros(3))
