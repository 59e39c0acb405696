"""Outputs that depend on more than the input: on random numbers, or on what a model keeps of earlier calls."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from exporter.conversion.network_io import call
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.array_diff import size_of
from exporter.parity.cases import ReferenceOutput
from runtime.artifact.difference import largest_difference
from runtime.errors import listed

# Where a module keeps its tensors.
_HOLDERS = ("_parameters", "_buffers")

_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))

# A model that is further than this from itself, relative to its largest output, on the same input and the same
# threads, draws random numbers: that is no rounding.
_RANDOM = 1e-3

# How the reason begins where the eager model gives others for the same input.
RANDOM = "the eager model is random"
STATE = "the eager model depends on earlier calls"


class State:
    """What a network holds besides its layers, at one time: buffers, parameters, numbers and other attributes."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._values = _values_of(network)

    def changed(self) -> tuple[str, ...]:
        """Return the names of what the network's forward has written since, or put in the place of something else."""
        now = _values_of(self._network)
        return tuple(name for name in {**self._values, **now} if not _is_same(self._values.get(name), now.get(name)))


def _values_of(network: nn.Module) -> dict[str, tuple[object, object]]:
    """Return attributes by name, each with what changes where it is written in place: nothing is copied."""
    values: dict[str, tuple[object, object]] = {}
    for path, module in network.named_modules():
        own = {name: value for name, value in vars(module).items() if not name.startswith("_") or name in _HOLDERS}
        for name, value in own.items():
            for key, entry in value.items() if name in _HOLDERS else [(name, value)]:
                values[f"{path}.{key}" if path else key] = (entry, _version(entry))
    return values


def _version(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return None if value.is_inference() else value._version
    return len(value) if isinstance(value, list | dict | set) else None


def _is_same(one: tuple[object, object] | None, other: tuple[object, object] | None) -> bool:
    if one is None or other is None:
        return False
    if isinstance(one[0], int | float | str) and type(one[0]) is type(other[0]):
        return bool(one[0] == other[0])
    return one[0] is other[0] and one[1] == other[1]


class _RandomOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operators that draw random numbers, each with the innermost line outside of torch."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in getattr(func, "tags", ()) and _drops(func, args, kwargs or {}):
            frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(_LIBRARIES)]
            line = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            self.found.append(f"{func}{line}")
        return func(*args, **(kwargs or {}))


def _drops(operator: Any, given: Sequence[Any], named: Mapping[str, Any]) -> bool:
    """Return whether an operator draws at all: fused attention is tagged as random, and is not without dropout."""
    values = {
        argument.name: given[index] if index < len(given) else named.get(argument.name, argument.default_value)
        for index, argument in enumerate(operator._schema.arguments)
    }
    return bool(values.get("dropout_p", 1.0) != 0.0)


def random_operators(forward: Callable[[], object]) -> tuple[str, ...]:
    """Return the operators that draw random numbers while ``forward`` runs, without duplicates."""
    with _RandomOperators() as operators:
        forward()
    return tuple(dict.fromkeys(operators.found))


def find_randomness(network: nn.Module, reference: ReferenceOutput, postprocessing: Postprocessing) -> str:
    """Return in words that a second run on the same input gives another output; empty where it does not."""
    state = State(network)
    again = postprocessing.expect_inner(call(network, reference.prepared.tensors))
    changed = state.changed()
    for name, array in again.items():
        if array.dtype.kind != "f":
            continue
        difference = largest_difference(array, reference.inner[name])
        is_large = difference > _RANDOM * size_of([reference.inner[name]])
        operators = random_operators(lambda: call(network, reference.prepared.tensors)) if is_large else ()
        drift = bool(changed) and not operators and difference > 0
        if not is_large and not drift:
            continue
        twice = f"expected the same output for '{reference.case.name}' twice, got '{name}' {difference:.1e} apart"
        if drift:
            return f"{STATE}: {twice}; each call changes {_quoted(changed)}"
        drawn = listed(operators, 3) if operators else "what is no operator of torch"
        return f"{RANDOM}: {twice}; {drawn} draws random numbers"
    return ""


def describe_hidden(network: nn.Module, state: State, inputs: Mapping[str, torch.Tensor]) -> str:
    """Return in words what else than its inputs the network's outputs may depend on, and what to do; else empty.

    ``state`` is what it held before its first call.
    """
    if changed := state.changed():
        return (
            f"Its forward keeps {_quoted(changed)} from one call to the next, and a graph keeps nothing: compute them "
            "in every call, or in the constructor."
        )
    if operators := random_operators(lambda: call(network, inputs)):
        return (
            f"Its forward draws random numbers ({listed(operators, 3)}), and a graph draws others, whatever the seed: "
            "draw them in the constructor, and keep them in a buffer."
        )
    return ""


def _quoted(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names], 3)
