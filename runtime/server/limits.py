"""The numbers that bound what a server takes on, and how a limit on memory becomes these."""

from dataclasses import dataclass, replace

from runtime.errors import InputError
from runtime.inputs.image.decoder import MAX_PIXELS

MIB = 2**20

# An RGB image while it is prepared: the decoded pixels, Pillow's four bytes a pixel, and what resizing keeps beside it.
BYTES_PER_PIXEL = 8

# Below these a server refuses ordinary photos.
_LEAST_PIXELS = 1_000_000
_LEAST_BODY_BYTES = 1 * MIB


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may hold, and what all requests together may.

    ``body_bytes`` bounds a body, compressed and unpacked; ``held_bytes`` all bodies at once; ``pixels`` an image before
    it is decoded; ``queue`` the inputs that wait or run; ``deadline_s`` the time for a request, its body included.
    """

    body_bytes: int = 32 * MIB
    held_bytes: int = 256 * MIB
    pixels: int = MAX_PIXELS
    queue: int = 128
    deadline_s: float = 30.0


def limits_for_memory(limits: Limits, *, memory_bytes: int, resident_bytes: int, workers: int) -> Limits:
    """Return ``limits``, lowered to what fits into ``memory_bytes`` beside the ``resident_bytes`` already in use.

    Half of what is left is for the images that ``workers`` threads decode at once, half for bodies that wait. Raises
    InputError when that leaves too little to serve with.
    """
    left = memory_bytes - resident_bytes
    pixels = min(limits.pixels, left // 2 // (workers * BYTES_PER_PIXEL))
    held = min(limits.held_bytes, left // 2)
    body = min(limits.body_bytes, held // 2)
    if pixels < _LEAST_PIXELS or body < _LEAST_BODY_BYTES:
        needed = resident_bytes + 2 * max(_LEAST_PIXELS * workers * BYTES_PER_PIXEL, 2 * _LEAST_BODY_BYTES)
        raise InputError(
            f"--memory-limit: too little: expected at least {needed / MIB:.0f} MB with these models loaded, "
            f"got {memory_bytes / MIB:.0f} MB. Raise it, or serve fewer models."
        )
    return replace(limits, pixels=pixels, held_bytes=held, body_bytes=body)
