"""The C library's memory: what large requests took goes back to the system when they end."""

import contextlib
import ctypes
import os

from runtime.server.limits import MIB

# mallopt's parameters, and the variables by which users set them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")

# Bodies and the arrays made of them; smaller blocks, such as those of most photos, are used again.
_LARGE_BYTES = 4 * MIB


def return_large_blocks() -> None:
    """Give each large block to the system once it is freed, unless the user has set glibc's own limits.

    By itself glibc takes blocks of up to 32 MB from its heaps after the first large one was freed; a small block behind
    them keeps them resident: a server grew by the size of several bodies. Elsewhere nothing is changed.
    """
    if any(name in os.environ for name in _VARIABLES):
        return
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGE_BYTES)  # as glibc chooses it itself


def return_free_blocks() -> None:
    """Give the system what is free now: loading a model leaves as much as its weights and more in small blocks."""
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)
