"""Mixtures of experts in a form that can be converted to ONNX, without a change of values."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

# Where transformers' configurations say how experts are computed: 'grouped_mm', its default, is an operator that ONNX
# lacks; 'batched_mm' gathers the weights of each token's experts.
_SETTING = "_experts_implementation"
_DEFAULT, _CONVERTIBLE = "grouped_mm", "batched_mm"


@contextlib.contextmanager
def convertible_experts(network: nn.Module) -> Iterator[None]:
    """Have the experts of a transformers model computed by operators that ONNX has, while it is exported."""
    configurations: dict[int, Any] = {}
    for module in network.modules():
        configuration = getattr(module, "config", None)
        if getattr(configuration, _SETTING, None) == _DEFAULT:
            configurations[id(configuration)] = configuration
    try:
        for configuration in configurations.values():
            setattr(configuration, _SETTING, _CONVERTIBLE)
        yield
    finally:
        for configuration in configurations.values():
            setattr(configuration, _SETTING, _DEFAULT)
