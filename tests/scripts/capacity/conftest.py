"""A measurement whose numbers are round, and processes without a server around them."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import msgspec
import pytest

from capacity.measurement import Batch, Busy, InputTimes, Measurement, ServerCost, StageTimes

# A deployment of the runtime alone has no server to measure; scripts/test-wheel says so when it leaves these out.
collect_ignore_glob = [] if find_spec("uvicorn") else ["test_command.py"]


@pytest.fixture
def measured() -> Callable[..., Measurement]:
    """A measurement: 1 ms decode, 1 ms geometry, 8 ms network, nothing else, on one core; changed as asked."""

    def build(**changes: Any) -> Measurement:
        found = Measurement(
            artifact="round",
            sha256="0" * 64,
            artifact_bytes=1_000_000,
            device="cpu",
            cores=1,
            process_cores=1,
            load1=0.0,
            lost_share=0.0,
            inputs=(InputTimes(name="a", size_bytes=125_000, decode_ms=1, geometry_ms=1, network_ms=8),),
            stages=(StageTimes(input=0, decode_ms=1, geometry_ms=1, network_ms=8),),
            busy=(Busy(workers=1, per_s=100, decode=1, geometry=1, network=1, slowdown=1),),
            all_cores=1.0,
            batches=(Batch(size=1, network_ms=8),),
            server=ServerCost(
                requests=1,
                loop_ms=0.0,
                worker_ms=0.0,
                outside_ms=0.0,
                lone_p50_ms=10,
                start_s=1.0,
                resident_mb=100,
                response_bytes=1000,
            ),
        )
        server = msgspec.structs.replace(found.server, **changes.pop("server", {}))
        return msgspec.structs.replace(found, server=server, **changes)

    return build
