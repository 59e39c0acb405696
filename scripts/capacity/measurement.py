"""Measurement of an artifact on a machine, and its JSON file."""

from pathlib import Path

import msgspec

from runtime.errors import InputError

# 2 renamed 'wide' to 'all_cores' and 'answer_bytes' to 'response_bytes'.
FORMAT = 2


class StageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one input's stages in a worker, in milliseconds; ``input`` is its index among the inputs."""

    input: int
    decode_ms: float
    geometry_ms: float
    network_ms: float

    @property
    def prepare_ms(self) -> float:
        """Time of the stages before the network."""
        return self.decode_ms + self.geometry_ms

    @property
    def total_ms(self) -> float:
        """Time of all stages."""
        return self.prepare_ms + self.network_ms


class InputTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One of the inputs: the size of its request's body, and its median times in milliseconds."""

    name: str
    size_bytes: int
    decode_ms: float
    geometry_ms: float
    network_ms: float


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of ``workers`` workers at once: inputs per second, and each stage's time relative to a single worker."""

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
    """Cost of the server around the stages, measured on ``truecopy serve`` over loopback.

    ``loop_ms`` is the event loop's processor time per request: HTTP, JSON, labels, a log line. ``worker_ms`` is the
    workers' time beyond the bare stages. ``outside_ms`` is the time of a lone request in which neither works: sockets,
    and the hand-off between threads. ``start_s`` is the time from the process's start to ready, ``resident_mb`` its
    memory after the load, ``response_bytes`` the size of a response with its headers.
    """

    requests: int
    loop_ms: float
    worker_ms: float
    outside_ms: float
    lone_p50_ms: float
    start_s: float
    resident_mb: float
    response_bytes: int


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact on a machine with ``cores`` cores, of which a server process has ``process_cores``.

    Stages are processor times of one worker; on an accelerator the network's are wall-clock times. ``lost_share`` is
    the share of the time that other programs took from that worker. ``all_cores`` is the time of a lone input's network
    on all of the process's cores as a share of its time on one; 1 where that is no faster or not done. ``load1`` is
    the machine's load average before the measurement.
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
    all_cores: float
    batches: tuple[Batch, ...]
    server: ServerCost

    @property
    def batched(self) -> bool:
        """Whether the server runs requests in batches, as it does on accelerators."""
        return self.device != "cpu"


def read_measurement(path: Path) -> Measurement:
    """Return the measurement in a file: the output of ``--json``, or its field ``measured``.

    Raises InputError for anything else.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}': {error.strerror}. Pass the output of 'scripts/plan-capacity --json'.") from error
    try:
        document = msgspec.json.decode(text)
        if isinstance(document, dict) and "measured" in document:
            document = document["measured"]
        if isinstance(document, dict) and document.get("format") != FORMAT:
            raise InputError(
                f"'{path}': another format: expected {FORMAT}, got {document.get('format')}. Measure again with --json."
            )
        measured = msgspec.convert(document, Measurement)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InputError(
            f"'{path}': not a measurement: {str(error).rstrip('.')}. Pass the output of 'scripts/plan-capacity --json'."
        ) from error
    if not measured.stages or not measured.busy or measured.process_cores < 1:
        raise InputError(f"'{path}': a measurement without times. Measure again with --json.")
    return measured
