"""Models that give others for the same input: whether one does, its random operators, and the lines that call them."""

import traceback
from collections.abc import Callable
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

_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))

# A model that is further than this from itself, relative to its largest output, on the same input and the same
# threads, draws random numbers: that is no rounding.
_RANDOM = 1e-3

# How the reason begins where the eager model gives others for the same input.
RANDOM = "the eager model is random"


class _RandomOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operators that draw random numbers, each with the innermost line outside of torch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(_LIBRARIES)]
            line = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            self.found.append(f"{func}{line}")
        return func(*args, **(kwargs or {}))


def random_operators(forward: Callable[[], object]) -> tuple[str, ...]:
    """Return the operators that draw random numbers while ``forward`` runs, without duplicates."""
    with _RandomOperators() as operators:
        forward()
    return tuple(dict.fromkeys(operators.found))


def find_randomness(network: nn.Module, reference: ReferenceOutput, postprocessing: Postprocessing) -> str:
    """Return in words that a second run on the same input gives another output; empty where it does not."""
    again = postprocessing.expect_inner(call(network, reference.prepared.tensors))
    for name, array in again.items():
        if array.dtype.kind != "f":
            continue
        difference = largest_difference(array, reference.inner[name])
        if difference > _RANDOM * size_of([reference.inner[name]]):
            operators = random_operators(lambda: call(network, reference.prepared.tensors))
            drawn = listed(operators, 3) if operators else "what is no operator of torch"
            return (
                f"{RANDOM}: expected the same output for '{reference.case.name}' twice, got '{name}' "
                f"{difference:.1e} apart; {drawn} draws random numbers"
            )
    return ""
