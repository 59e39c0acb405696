"""Networks built for their keys and shapes alone: without weights, in milliseconds."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from exporter.architectures.constructors import without_downloads
from exporter.checkpoint.description import EXTRA_STATE

_FILLS = {"normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "erfinv_"}


class _Unfilled(TorchFunctionMode):
    """Leaves new weights as the allocator gave them: memory that nobody touches is never really taken."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in _FILLS:
            return args[0] if args else (kwargs or {}).get("tensor")
        return func(*args, **(kwargs or {}))


def build_skeleton(build: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Return what ``build`` makes, with keys, shapes and settings, but no usable weights.

    On the meta device, or on the CPU where the constructor computes with tensors, as torchvision's regnet does. Raises
    whatever the constructor raises.
    """
    with warnings.catch_warnings(), without_downloads():
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                return build(**arguments)
        except Exception:  # if it is the arguments' fault, it fails again below
            with _Unfilled():
                return build(**arguments)


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the network's state dict, by key; EXTRA_STATE for what is no tensor."""
    return {
        key: tuple(value.shape) if isinstance(value, torch.Tensor) else EXTRA_STATE
        for key, value in network.state_dict().items()
    }
