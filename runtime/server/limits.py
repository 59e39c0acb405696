"""Limits of a server, and their derivation from a memory limit."""

from dataclasses import dataclass, replace

from runtime.errors import InputError
from runtime.inputs.image.decoder import MAX_PIXELS

MIB = 2**20

# Memory per pixel of an RGB image while it is prepared: the decoded pixels, Pillow's four bytes per pixel, and the
# buffers of resizing.
BYTES_PER_PIXEL = 8

# After SIGTERM a server goes on for a moment, not ready: load balancers and clients with open connections notice.
NOTICE_S = 0.5

# Values that JSON and typed tensors become take more memory than their bytes in the body.
_REQUEST_PER_BODY = 4

# A parser makes the values of a JSON text at once, under Python's lock: health checks wait for it.
_PARSED_PER_BODY = 2

# With less than these a server would refuse ordinary photos.
_LEAST_PIXELS = 1_000_000
_LEAST_BODY_BYTES = 1 * MIB


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one request, and of all requests together.

    ``body_bytes`` bounds one body, compressed and decompressed; ``held_bytes`` all buffered requests; ``pixels`` an
    image, checked before it is decoded; ``queue`` the runs of a model that wait or are in progress; ``deadline_s`` the
    time for a request, the arrival of its body included; ``connections`` the open HTTP connections.
    """

    body_bytes: int = 32 * MIB
    held_bytes: int = 256 * MIB
    pixels: int = MAX_PIXELS
    queue: int = 128
    deadline_s: float = 30.0
    connections: int = 2048

    @property
    def request_bytes(self) -> int:
        """What one request may hold: its body as sent, decompressed, and the values and tensors that it claims."""
        return min(_REQUEST_PER_BODY * self.body_bytes, self.held_bytes)

    @property
    def parsed_bytes(self) -> int:
        """What the values may take that are made of one JSON text at once."""
        return min(_PARSED_PER_BODY * self.body_bytes, self.held_bytes)

    def most_inputs(self, inputs_per_run: int) -> int:
        """Return how many inputs one request may have, of a model that takes ``inputs_per_run`` of them at a time."""
        return self.queue * inputs_per_run


def limits_for_memory(limits: Limits, *, memory_bytes: int, resident_bytes: int, workers: int) -> Limits:
    """Return ``limits``, lowered to what fits into ``memory_bytes`` besides the ``resident_bytes`` already in use.

    Half of the remaining memory is for the images that ``workers`` threads decode at once, half for buffered bodies.
    Raises InputError when that is too little to serve with.
    """
    free_bytes = memory_bytes - resident_bytes
    pixels = min(limits.pixels, free_bytes // 2 // (workers * BYTES_PER_PIXEL))
    held_bytes = min(limits.held_bytes, free_bytes // 2)
    body_bytes = min(limits.body_bytes, held_bytes // 2)
    if pixels < _LEAST_PIXELS or body_bytes < _LEAST_BODY_BYTES:
        needed_bytes = resident_bytes + 2 * max(_LEAST_PIXELS * workers * BYTES_PER_PIXEL, 2 * _LEAST_BODY_BYTES)
        raise InputError(
            f"--memory-limit: too little: expected at least {needed_bytes / MIB:.0f} MB with these models loaded, "
            f"got {memory_bytes / MIB:.0f} MB. Raise it, or serve fewer models."
        )
    return replace(limits, pixels=pixels, held_bytes=held_bytes, body_bytes=body_bytes)
