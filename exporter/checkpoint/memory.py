"""Memory of an export: what it needs, and what it gives back to the system."""

import ctypes
import gc
import mmap
import re
import sys
from bisect import bisect_left
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

_MAPPINGS = Path("/proc/self/smaps")
# Of each mapping: its addresses, the inode of its file, and how much of it belongs to no file, in memory or swapped.
_MAPPING = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+)(?:.*\n)+?Anonymous: +(\d+) kB\n(?:.*\n)*?Swap: +(\d+) kB",
    re.MULTILINE,
)

# Weights that are worth a search for what can be freed.
_WORTH_BYTES = 64_000_000


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


def free_weights(network: "nn.Module", *, kept: "nn.Module") -> None:
    """Let go of a network's weights, except those that ``kept`` also has; the network is of no use afterwards.

    Other objects may hold its parameters: onnxscript's rewrite rules keep the last graph that they matched.
    """
    needed = {id(parameter) for parameter in kept.parameters()}
    for parameter in network.parameters():
        if id(parameter) not in needed:
            parameter.data = parameter.new_empty(0)


def release_memory(network: "nn.Module") -> None:
    """Free what nothing refers to any more, pages that the allocator keeps, and the pages of a mapped ``network``.

    Nothing happens for a network of few weights: the search takes a fifth of a second.
    """
    if sum(parameter.nbytes for parameter in network.parameters()) < _WORTH_BYTES:
        return
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
        if trim is not None:
            trim(0)
        drop_pages(network)


def drop_pages(network: "nn.Module") -> None:
    """Let go of the pages of files that a network's weights are mapped from; their next use reads them again.

    A mapping that something has been written to stays: the pages written are in no file.
    """
    addresses = sorted(parameter.data_ptr() for parameter in network.parameters())
    if sys.platform != "linux" or not addresses:
        return
    for start, end in _clean_mappings():
        if bisect_left(addresses, start) < bisect_left(addresses, end):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _clean_mappings() -> Iterator[tuple[int, int]]:
    """Yield the addresses of this process's mappings of files that no page was written to."""
    for start, end, inode, *written_kb in _MAPPING.findall(_MAPPINGS.read_text()):
        if inode != "0" and written_kb == ["0", "0"]:
            yield int(start, 16), int(end, 16)
