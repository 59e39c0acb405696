"""Memory of an export: what it needs, and what it gives back to the system."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import ExportError
from runtime.engine.cpu import memory_bytes
from runtime.engine.process import resident_bytes

if TYPE_CHECKING:
    from torch import nn

# Measured (scripts/bench memory): the eager weights, the artifact's, and those of one form that is run; and what the
# libraries take.
_TIMES_WEIGHTS = 3.5
_LIBRARIES_BYTES = 1_000_000_000
_ITEM_BYTES = 4

# Weights that are worth a search for what can be freed.
_WORTH_BYTES = 32_000_000


def check_memory(checkpoint: Path, parameters: int, *, ignore: bool) -> None:
    """Raise ExportError where this process may not use the memory that a network of float32 values takes.

    ``parameters`` is the number of its values, as the file describes them.
    """
    left = memory_bytes()
    if ignore or left is None:
        return
    needed = int(_TIMES_WEIGHTS * _ITEM_BYTES * parameters) + _LIBRARIES_BYTES
    usable = left + resident_bytes()
    if needed > usable:
        raise ExportError(
            f"'{checkpoint}': not enough memory: expected about {needed / 1e9:.1f} GB, got {usable / 1e9:.1f} GB that "
            "this process may use. Run it where there is more, or pass --ignore-memory to try."
        )


@contextmanager
def only_new_objects() -> Iterator[None]:
    """Keep what exists already out of every search for garbage: the libraries are a million objects."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def release_memory(network: "nn.Module") -> None:
    """Free what nothing refers to any more: cycles, and pages that the C library's allocator keeps for later.

    Nothing happens for a ``network`` of few weights: the search takes a fifth of a second.
    """
    if sum(parameter.nbytes for parameter in network.parameters()) < _WORTH_BYTES:
        return
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
        if trim is not None:
            trim(0)
