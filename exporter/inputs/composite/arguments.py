"""How a forward takes the tensors of an input's parts: by keyword, by position, or in a dictionary."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from exporter.architectures.registry import inner_model
from exporter.errors import ExportError

# For each tensor the names that lead to it: of an argument, and of an entry where that is a dictionary.
Paths: TypeAlias = tuple[tuple[str, ...], ...]


class ByParts(nn.Module):
    """A network that gets the tensors of all parts by position, and takes them as its own forward has them.

    ``keywords`` says that arguments go by name; without it they go by position. A ``whole`` forward takes one
    dictionary of all parts.
    """

    def __init__(self, model: nn.Module, paths: Paths, *, keywords: bool, whole: bool) -> None:
        super().__init__()
        self.model = model
        self.paths = paths
        self.keywords = keywords
        self.whole = whole

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Return what the network returns."""
        arguments: dict[str, Any] = {}
        for (name, *entry), tensor in zip(self.paths, tensors, strict=True):
            if entry:
                arguments.setdefault(name, {})[entry[0]] = tensor
            else:
                arguments[name] = tensor
        if self.whole:
            return self.model(arguments)
        return self.model(**arguments) if self.keywords else self.model(*arguments.values())


def by_parts(network: nn.Module, parts: Mapping[str, Sequence[str]]) -> ByParts:
    """Return the network with the tensors of all parts in by position; ``parts`` have the names of each part's tensors.

    A part is the argument of its name: a tensor, or a dictionary of tensors where it has several, as a text has. These
    may also be arguments of their own, called as they are or with the part's name before it. Arguments of other names
    take the parts in their order, and a forward of one argument takes a dictionary of all parts. Raises ExportError
    where the forward takes another number.
    """
    # Messages name the class of the network.
    wrapped: type[ByParts] = type(type(inner_model(network)).__name__, (ByParts,), {})
    names, required = parameters_of(network)
    paths = tuple(path for part, tensors in parts.items() for path in _paths_of(part, tensors, names))
    arguments = list(dict.fromkeys(path[0] for path in paths))
    if set(arguments) <= set(names) and set(required) <= set(arguments):
        return wrapped(network, paths, keywords=True, whole=False)
    if len(names) == 1 and len(parts) > 1:
        return wrapped(network, tuple(_under(parts)), keywords=False, whole=True)
    # As in forward(a, b), or forward(*inputs).
    if not set(arguments) & set(names) and (not names or len(required) <= len(arguments) <= len(names)):
        return wrapped(network, paths, keywords=False, whole=False)
    raise ExportError(
        f"--part: the forward of '{type(inner_model(network)).__name__}' has other parameters: expected "
        f"{', '.join(map(repr, required or names))}, got {', '.join(map(repr, arguments))}. Name one part for each."
    )


def parameters_of(network: nn.Module) -> tuple[list[str], list[str]]:
    """Return the names of the forward's parameters, and of those without a default; none where it takes any number."""
    try:
        parameters = inspect.signature(inner_model(network).forward).parameters.values()
    except (ValueError, TypeError):
        return [], []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [parameter for parameter in parameters if parameter.kind not in variable]
    required = [parameter.name for parameter in named if parameter.default is inspect.Parameter.empty]
    return [parameter.name for parameter in named], required


def argument_of(part: str, tensor: str, names: Sequence[str]) -> str:
    """Return the parameter that takes one of several tensors of a part; empty where none is called like it."""
    return next((name for name in (f"{part}_{tensor}", tensor) if name in names), "")


def _paths_of(part: str, tensors: Sequence[str], names: Sequence[str]) -> Sequence[tuple[str, ...]]:
    own = [argument_of(part, tensor, names) for tensor in tensors]
    if part not in names and all(own):
        return [(name,) for name in own]
    return [(part,)] if len(tensors) == 1 else [(part, tensor) for tensor in tensors]


def _under(parts: Mapping[str, Sequence[str]]) -> Sequence[tuple[str, ...]]:
    return [(part,) if len(own) == 1 else (part, tensor) for part, own in parts.items() for tensor in own]
