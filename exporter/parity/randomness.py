"""Random operators of a forward: which they are, and the lines that call them."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


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
