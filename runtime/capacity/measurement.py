"""What was measured of an artifact on a machine: a file that a plan can be made from, here or elsewhere."""

from pathlib import Path

import msgspec

from runtime.errors import InputError

FORMAT = 1


class StageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One input's way through a worker, in milliseconds; ``input`` is its position among the inputs."""

    input: int
    decode_ms: float
    geometry_ms: float
    network_ms: float

    @property
    def prepare_ms(self) -> float:
        """What comes before the network."""
        return self.decode_ms + self.geometry_ms

    @property
    def total_ms(self) -> float:
        """All of it."""
        return self.prepare_ms + self.network_ms


class InputTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One of the inputs: the bytes of its request, and its medians in milliseconds."""

    name: str
    size_bytes: int
    decode_ms: float
    geometry_ms: float
    network_ms: float


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """So many workers at once: inputs a second, and how many times longer each stage takes than for one worker."""

    workers: int
    per_s: float
    decode: float
    geometry: float
    network: float
    slowdown: float


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of one call of the network with ``size`` inputs."""

    size: int
    network_ms: float


class ServerCost(msgspec.Struct, frozen=True, kw_only=True):
    """What the server adds to the stages: measured on ``truecopy serve``, on loopback.

    ``loop_ms`` is the event loop's processor time for a request: HTTP, JSON, labels, a line of the log. ``worker_ms``
    is what its workers take more than the bare stages. ``outside_ms`` is time of a lone request in which neither works:
    sockets, and the handing over between threads. ``start_s`` is from the process to ready, ``resident_mb`` its memory
    after that work, ``answer_bytes`` the size of an answer with its headers.
    """

    requests: int
    loop_ms: float
    worker_ms: float
    outside_ms: float
    lone_p50_ms: float
    start_s: float
    resident_mb: float
    answer_bytes: int


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact on a machine with ``cores`` cores, of which a server process has ``process_cores``.

    Stages are processor times of one worker; on an accelerator the network's are wall-clock times. ``lost_share`` is
    the share of the time that other programs took from that worker. ``wide`` is how long the network of a lone input
    takes on all of the process's cores, as a share of its time on one; 1 where that is no faster or not done.
    ``load1`` is the machine's load average before it began.
    """

    format: int = FORMAT
    artifact: str
    sha256: str
    artifact_bytes: int
    device: str
    cores: int
    process_cores: int
    load1: float
    lost_share: float
    inputs: tuple[InputTimes, ...]
    stages: tuple[StageTimes, ...]
    busy: tuple[Busy, ...]
    wide: float
    batches: tuple[Batch, ...]
    server: ServerCost

    @property
    def batched(self) -> bool:
        """Whether the server runs requests in batches: on accelerators."""
        return self.device != "cpu"


def read_measurement(path: Path) -> Measurement:
    """Return the measurement in a file: what ``--json`` printed, or its ``measured`` alone.

    Raises InputError for anything else.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}': {error.strerror}. Give what 'truecopy capacity --json' printed.") from error
    try:
        found = msgspec.json.decode(text)
        if isinstance(found, dict) and "measured" in found:
            found = found["measured"]
        if isinstance(found, dict) and found.get("format") != FORMAT:
            raise InputError(
                f"'{path}': another format: expected {FORMAT}, got {found.get('format')}. Measure again with --json."
            )
        measured = msgspec.convert(found, Measurement)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InputError(
            f"'{path}': not a measurement: {str(error).rstrip('.')}. Give what 'truecopy capacity --json' printed."
        ) from error
    if not measured.stages or not measured.busy or measured.process_cores < 1:
        raise InputError(f"'{path}': not a measurement: it holds no times. Measure again with --json.")
    return measured
