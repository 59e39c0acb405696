"""Loading by a network's own code, whose hooks rename or convert the keys of its older checkpoints."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from exporter.architectures.keys import KeyMap, prefix_maps
from exporter.architectures.meta_models import build_skeleton
from exporter.checkpoint import Checkpoint
from exporter.checkpoint.load import load_extra_state, load_tensors


@dataclass(frozen=True, kw_only=True)
class OwnLoad:
    """What the network's own code did: keys that it renamed, old to new, and keys whose tensors it converted."""

    renamed: Mapping[str, str]
    converted: tuple[str, ...]


def find_own_map(build: Callable[..., Any], arguments: Mapping[str, Any], checkpoint: Checkpoint) -> KeyMap | None:
    """Return the map of keys with which ``load_state_dict(strict=True)`` takes the checkpoint; None where none does.

    A map removes wrappers and a common prefix, as people do before they load. It is tried on networks without weights.
    """
    for key_map in prefix_maps(checkpoint.shapes):
        if len(key_map.source_of) != len(checkpoint.shapes):
            continue
        skeleton = build_skeleton(build, arguments)
        device = next((parameter.device for parameter in skeleton.parameters()), torch.device("cpu"))
        tensors = {
            key: torch.zeros((), dtype=getattr(torch, tensor.dtype), device=device).expand(tensor.shape)
            for key, tensor in checkpoint.tensors.items()
        }
        if _takes(skeleton, _state(key_map, checkpoint, tensors)):
            return key_map
    return None


def _takes(network: nn.Module, state: Mapping[str, Any]) -> bool:
    try:
        with warnings.catch_warnings():
            # torch warns of each value that it cannot copy to a network without weights.
            warnings.simplefilter("ignore")
            network.load_state_dict(state, strict=True)
    except Exception:  # keys that it does not take, or whatever its hooks raise for them
        return False
    return True


def load_by_itself(network: nn.Module, key_map: KeyMap, checkpoint: Checkpoint) -> OwnLoad:
    """Load the weights as ``load_state_dict(strict=True)`` does, and return what became of keys that are not as before.

    Raises what the network's own code raises.
    """
    tensors = load_tensors(checkpoint)
    network.load_state_dict(_state(key_map, checkpoint, tensors), strict=True)
    loaded = {key: value for key, value in network.state_dict().items() if isinstance(value, torch.Tensor)}
    new = {key: value for key, value in loaded.items() if key not in key_map.source_of}
    renamed: dict[str, str] = {}
    converted = []
    for key, source in key_map.source_of.items():
        tensor = tensors.get(source)
        if tensor is None or (key in loaded and _equal(loaded[key], tensor)):
            continue
        twin = next((name for name, value in new.items() if _equal(value, tensor)), None)
        if twin is None:
            converted.append(source)
        else:
            renamed[source] = twin
            del new[twin]
    return OwnLoad(renamed=renamed, converted=tuple(converted))


def _state(key_map: KeyMap, checkpoint: Checkpoint, tensors: Mapping[str, torch.Tensor]) -> "OrderedDict[str, Any]":
    """Return the state dict under its new keys, with the versions of modules that torch saved with it."""
    state = OrderedDict(
        (key, tensors[source] if source in tensors else load_extra_state(checkpoint, source))
        for key, source in key_map.source_of.items()
    )
    versions = {}
    for path, version in checkpoint.versions.items():
        parts = [part for part in str(path).split(".") if part not in key_map.dropped]
        moved = ".".join(parts)
        if f"{moved}.".startswith(key_map.removed_prefix):
            versions[f"{moved}.".removeprefix(key_map.removed_prefix).rstrip(".")] = version
    state._metadata = versions  # type: ignore[attr-defined]  # as torch itself keeps them
    return state


def _equal(loaded: torch.Tensor, tensor: torch.Tensor) -> bool:
    return loaded.shape == tensor.shape and torch.equal(loaded, tensor.to(loaded.dtype))
