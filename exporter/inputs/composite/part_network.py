"""A network of several parts, seen from one of them: what an adapter runs that tries its own tensors."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from exporter.inputs.composite.adapter import Part
from exporter.inputs.composite.arguments import argument_of, by_parts, parameters_of
from runtime.inputs.text.decoder import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS

# The length of a named dimension of an array beside the part that is tried.
_LENGTH = 16


class PartNetwork(nn.Module):
    """A network that takes the tensors of the part ``name`` by keyword, beside one input of each other part.

    ``others`` returns the other parts when it is called: the adapter of one may not be there yet.
    """

    def __init__(self, network: nn.Module, name: str, parts: Callable[[], Sequence[Part]]) -> None:
        super().__init__()
        self.model = network
        self.name = name
        self.parts = parts
        names = [inspect.Parameter(tensor, inspect.Parameter.KEYWORD_ONLY) for tensor in self._takes()]
        self.forward = self._forward_of(inspect.Signature(names))

    def _takes(self) -> Sequence[str]:
        """Return the tensors that the forward may take for the part: those that it names, or any of them."""
        names, _ = parameters_of(self.model)
        of_text = (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)
        own = [tensor for tensor in of_text if argument_of(self.name, tensor, names)]
        return (self.name, *(own if own and self.name not in names else of_text))

    def _forward_of(self, signature: inspect.Signature) -> Callable[..., Any]:
        def forward(**tensors: torch.Tensor) -> Any:
            count = len(next(iter(tensors.values())))
            parts = self.parts()
            values: list[torch.Tensor] = []
            for part in parts:
                own = tensors if part.name == self.name else _example(part)
                values += [tensor if len(tensor) == count else torch.cat([tensor] * count) for tensor in own.values()]
            named = {part.name: tuple(tensors) if part.name == self.name else part.tensors for part in parts}
            return by_parts(self.model, named)(*values)

        forward.__signature__ = signature  # type: ignore[attr-defined]
        return forward


def _example(part: Part) -> Mapping[str, torch.Tensor]:
    """Return the network's inputs for one case of a part; of an array zeros, as its own cases are found by trying."""
    shape = getattr(part.spec, "shape", None)
    if shape is None:
        return part.adapter.prepare(part.adapter.cases()[0]).tensors
    sizes = [size if isinstance(size, int) else _LENGTH for size in shape[1:]]
    return {part.name: torch.zeros((1, *sizes), dtype=getattr(torch, part.spec.dtype))}  # type: ignore[union-attr]
