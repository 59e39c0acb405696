"""Inputs and outputs of a network's forward, by name."""

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import nn

from exporter.architectures.registry import inner_model
from exporter.conversion.further_inputs import describe_further
from exporter.errors import NO_CUDA, ConversionError, line_of
from runtime.manifest import Entries, Items, Structure, TensorLeaf

# Arrays by name.
Arrays: TypeAlias = Mapping[str, NDArray[Any]]

# By input and axis, the names of the network's dynamic dimensions.
Dimensions: TypeAlias = Mapping[str, Mapping[int, str]]

# The name of an output that has none of its own.
OUTPUT = "output"

# Names of the main output, where a forward returns several: those of transformers and torchvision's segmentation.
_MAIN = ("logits", "out")

# What the messages of torch and Python say of the cause, and what to do about it; the last one is of any other.
_REMEDIES = (
    (
        NO_CUDA,
        "Its source puts tensors on a CUDA device: create them on the input's own, with device=x.device.",
    ),
    (
        r"more than 1 value per channel when training",
        (
            "It takes a batch norm's statistics from the input, as in training: leave layers as eval() sets them, and "
            "pass training=self.training."
        ),
    ),
    (
        r"positional argument|unexpected keyword|required .*argument",
        "Its forward has other parameters: describe an input for each with --input.",
    ),
    (
        r"index out of range|out of bounds|class values|num_classes",
        "A whole number is outside of what it indexes, such as the rows of an embedding: give numbers in that range.",
    ),
    (
        r"\bhalf\b|c10::half|bfloat16",
        "Weights in half precision run in float32 here: leave .half() and casts to it out of the forward.",
    ),
    (
        r"scalar type|same dtype|input type|dtype",
        "The input has another dtype than the weights or the operation: name it in --input, or convert in the forward.",
    ),
    (
        r"number of <eos>",
        (
            "It takes the hidden state at the end token, so a text that writes it fails beside others: write a class "
            "that takes the last of each row, hidden[torch.arange(ids.shape[0]), (ids == END).long().cumsum(1)"
            ".argmax(1)], and pass --arch FILE.py:NAME --tokenizer FOLDER."
        ),
    ),
    (
        r"channels|shape|size|dimension|broadcast|multiplied",
        "The input has another shape than the network takes: give the size and channels of training.",
    ),
    (r"", "Its own code raises this for such an input."),
)

# The packages of what the export puts around a network, and what it holds the network as.
_OURS = ("exporter.", "truecopy")
_HELD_AS = ("network", "model")

# The batch is the first dimension of every tensor.
_FIRST: Mapping[str, int] = MappingProxyType({})


def name_of(network: nn.Module) -> str:
    """Return the name of the user's own class, inside of what the export puts around it."""
    inner = inner_model(network)
    held = [getattr(inner, name, None) for name in _HELD_AS] if type(inner).__module__.startswith(_OURS) else []
    wrapped = next((module for module in held if isinstance(module, nn.Module)), None)
    return type(inner).__name__ if wrapped is None else name_of(wrapped)


def takes_keywords(network: nn.Module, names: Sequence[str]) -> bool:
    """Return whether the forward has parameters of all these names; inputs then go by name, else by position."""
    try:
        # Logits passes its inputs on: the model inside has the names.
        forward = inner_model(network).forward
        parameters = inspect.signature(forward).parameters
    except (ValueError, TypeError):
        return False
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return all(name in parameters and parameters[name].kind in by_name for name in names)


def call(network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Any:
    """Return what the network's forward returns for tensors by name.

    Raises ConversionError when the forward fails.
    """
    try:
        with torch.no_grad():
            return network(**inputs) if takes_keywords(network, tuple(inputs)) else network(*inputs.values())
    except Exception as error:  # the user's forward may raise anything
        shapes, line = ", ".join(str(list(tensor.shape)) for tensor in inputs.values()), line_of(error)
        raise ConversionError(
            f"'{name_of(network)}': a forward pass on {shapes} failed: {type(error).__name__}: "
            f"{str(error).rstrip('.')}{f' ({line})' if line else ''}. "
            f"{describe_further(network, inputs) or _remedy(error)}"
        ) from error


def _remedy(error: Exception) -> str:
    """Return what to do about an error of the forward, as far as its message tells the cause."""
    message = str(error)
    return next(remedy for pattern, remedy in _REMEDIES if re.search(pattern, message, re.IGNORECASE))


def take_apart(value: Any) -> tuple[Structure, dict[str, torch.Tensor]]:
    """Return the structure of a forward's value, and its tensors by name; entries that are None are left out.

    Tuples, lists, dictionaries, named tuples and data classes may be nested; a name is the path to its tensor. Raises
    ConversionError for anything else.
    """
    tensors: dict[str, torch.Tensor] = {}
    return _take_apart(value, "", tensors), tensors


def batch_first(tensors: Mapping[str, torch.Tensor], batch_axes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Return tensors by name with the batch as their first dimension; ``batch_axes`` has those where it is another."""
    return {
        name: tensor.movedim(batch_axes[name], 0) if name in batch_axes else tensor for name, tensor in tensors.items()
    }


def main_output(value: Any, batch_axes: Mapping[str, int] = _FIRST) -> torch.Tensor | None:
    """Return the main tensor of a forward's value: itself, its ``logits`` or ``out``, or its only one; batch first."""
    tensors = {OUTPUT: value} if isinstance(value, torch.Tensor) else take_apart(value)[1]
    tensors = batch_first(tensors, batch_axes)
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    return next((tensors[name] for name in _MAIN if name in tensors), None)


class Flat(nn.Module):
    """A network with tensors in by position, and out a tuple of all tensors or the main one alone, as its graph has.

    The batch is the first dimension of what comes out; ``batch_axes`` says where it is another in the network's own.
    """

    def __init__(
        self, network: nn.Module, names: Sequence[str], *, whole: bool, batch_axes: Mapping[str, int] = _FIRST
    ) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(names)
        self.by_keyword = takes_keywords(network, names)
        self.whole = whole
        self.batch_axes = dict(batch_axes)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return the tensors in the order of ``take_apart``, or the main one."""
        named = dict(zip(self.names, inputs, strict=True))
        value = self.network(**named) if self.by_keyword else self.network(*inputs)
        if self.whole:
            return tuple(batch_first(take_apart(value)[1], self.batch_axes).values())
        main = main_output(value, self.batch_axes)
        assert main is not None
        return main


def flatten(
    network: nn.Module, inputs: Sequence[str], value: Any, *, whole: bool, batch_axes: Mapping[str, int] = _FIRST
) -> nn.Module:
    """Return the network with tensors in by position: itself, where it takes one tensor and ``value`` is one."""
    plain = len(inputs) == 1 and isinstance(value, torch.Tensor) and not whole and not batch_axes
    return network if plain else Flat(network, inputs, whole=whole, batch_axes=batch_axes)


def _take_apart(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Structure:
    if isinstance(value, torch.Tensor):
        name = path or OUTPUT
        tensors[name] = value
        return TensorLeaf(output=name)
    if dataclasses.is_dataclass(value) and not isinstance(value, Mapping):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        value = dict(zip(value._fields, value, strict=True))
    if isinstance(value, Mapping):
        return Entries(
            entries={
                str(key): _take_apart(entry, f"{path}.{key}" if path else str(key), tensors)
                for key, entry in value.items()
                if entry is not None
            }
        )
    if isinstance(value, list | tuple):
        return Items(
            items=tuple(
                _take_apart(entry, f"{path}.{position}" if path else f"{OUTPUT}_{position}", tensors)
                for position, entry in enumerate(value)
                if entry is not None
            )
        )
    raise ConversionError(
        f"the network's output '{path or OUTPUT}': cannot be exported: expected tensors in tuples, lists or "
        f"dictionaries, got {type(value).__name__}. Return tensors."
    )
