"""Further inputs of a forward: which ones it needs, and how the user describes them."""

import inspect
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from itertools import chain, product
from weakref import WeakKeyDictionary

import torch
from torch import nn

from exporter.architectures.registry import dictionary_keys, inner_model

# How long a search for the shapes may run the forward.
_SECONDS = 10.0

# The widest row that is tried where no layer has just that width.
_WIDEST = 129

# What was found of each network.
_descriptions: MutableMapping[nn.Module, str] = WeakKeyDictionary()


def describe_further(network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> str:
    """Return what to do where a forward needs more tensors than ``inputs``, batches of one; empty where it does not.

    The shapes of the others are found by running the forward, as far as layers tell their sizes.
    """
    names = _required(network)
    keys = dictionary_keys(network)
    if len(keys) > 1:
        parts = " ".join(f"--part {key}=FILE.py:TRANSFORM" for key in keys)
        return (
            f"Its forward takes a dictionary of {' and '.join(map(repr, keys))}: state each as a part, with its own "
            f"transform or options: {parts}, or --part {keys[0]}.resize=HxW for a photo, and --part "
            f"'{keys[0]}.input=float32[batch,3]' for an array."
        )
    if len(names) <= len(inputs):
        return ""
    # One case after the other fails on the same forward.
    if network not in _descriptions:
        _descriptions[network] = _describe_all(network, names, list(inputs.values()))
    return _descriptions[network]


def _describe_all(network: nn.Module, names: Sequence[str], known: Sequence[torch.Tensor]) -> str:
    tensors = _complete(network, known, len(names) - len(known))
    described = " ".join(f"--input '{name}={_describe(tensor)}'" for name, tensor in zip(names, tensors, strict=True))
    parts = " ".join(f"--part {name}=FILE.py:TRANSFORM" for name in names)
    stated = " ".join(_state(name, tensor) for name, tensor in zip(names, tensors, strict=True))
    unknown = ", with your own lengths for '...'" if any(tensor is None for tensor in tensors) else ""
    return (
        f"Its forward takes {len(names)} inputs, {' and '.join(map(repr, names))}: state each as a part, with its own "
        f"transform: {parts}; or with options of its own, such as {names[0]}.mean: {stated}. Or describe each as an "
        "array that you prepare as in training, without --preprocess and the options for images"
        f"{unknown}: {described}. An input is then an .npz file, or a JSON object, with an array for each."
    )


def _required(network: nn.Module) -> list[str]:
    """Return the names of the forward's parameters without a default; none where it takes any number."""
    try:
        parameters = inspect.signature(inner_model(network).forward).parameters.values()
    except (ValueError, TypeError):
        return []
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return []
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [
        parameter.name
        for parameter in parameters
        if parameter.kind in by_position and parameter.default is inspect.Parameter.empty
    ]


def _complete(network: nn.Module, known: Sequence[torch.Tensor], missing: int) -> Sequence[torch.Tensor | None]:
    """Return the known tensors and others with which the forward runs, or others alone; None for what is not found."""
    candidates = list(_candidates(network, known))
    beside_known = ((*known, *others) for others in product(candidates, repeat=missing))
    end = time.monotonic() + _SECONDS
    for tensors in chain(beside_known, product(candidates, repeat=len(known) + missing)):
        if time.monotonic() > end:
            break
        if _runs(network, tensors):
            return tensors
    return (*known, *([None] * missing))


def _runs(network: nn.Module, tensors: Sequence[torch.Tensor]) -> bool:
    try:
        with torch.no_grad():
            network(*tensors)
    except Exception:  # the user's forward may raise anything
        return False
    return True


def _candidates(network: nn.Module, known: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield tensors like the known ones, rows as wide as layers take or less, and category numbers for embeddings.

    A row of one column comes after the others: it is broadcast to any number of them.
    """
    yield from (torch.zeros_like(tensor) for tensor in known)
    widths = [getattr(module, "in_features", getattr(module, "num_features", 0)) for module in network.modules()]
    widths = [width for width in widths if isinstance(width, int) and width]
    embeddings = sum(isinstance(module, nn.Embedding) for module in network.modules())
    # A layer that takes all inputs together is wider than each.
    for width in dict.fromkeys((*widths, *range(2, min(max(widths, default=0), _WIDEST)), 1)):
        yield torch.zeros(1, width)
    yield torch.zeros(1)
    # After the floats, which layers take whole numbers for where they join both.
    yield from (torch.zeros(1, width, dtype=torch.int64) for width in range(embeddings, 0, -1))


def _state(name: str, tensor: torch.Tensor | None) -> str:
    """Return the option that states a part: a photo by its size, and anything else as an array."""
    if tensor is not None and tensor.dim() == 4 and tensor.shape[1] in (1, 3):
        return f"--part {name}.resize={tensor.shape[2]}x{tensor.shape[3]}"
    return f"--part '{name}.input={_describe(tensor)}'"


def _describe(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "float32[batch,...]"
    dimensions = ",".join(("batch", *map(str, tensor.shape[1:])))
    return f"{str(tensor.dtype).removeprefix('torch.')}[{dimensions}]"
