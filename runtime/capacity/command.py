"""'truecopy capacity': parse, call, print. What it needs is imported when it is asked for."""

import sys
import warnings
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.console import DEVICE_HELP
from runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from runtime.capacity.arrivals import Times


class Balance(Enum):
    """How a balancer chooses: in turn, at random, the less busy of two at random, or the least busy."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    TWO = "two-choices"
    LEAST = "least"


def capacity(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="The folder that 'truecopy export' wrote.")],
    p99_ms: Annotated[
        float, typer.Option("--p99-ms", help="99 of 100 requests must be answered within so many milliseconds.")
    ],
    rate: Annotated[
        float | None, typer.Option(help="Requests a second, one input each. Default: what --arrivals FILE has.")
    ] = None,
    arrivals: Annotated[
        str, typer.Option(metavar="SHAPE", help="poisson, bursts, or a log: a file with a time a line.")
    ] = "poisson",
    samples: Annotated[
        list[Path] | None,
        typer.Option(help="Files, folders or tables to measure with; repeat for more. Default: golden inputs."),
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    replica_cores: Annotated[int | None, typer.Option(help="Cores of one server process. Default: all here.")] = None,
    balance: Annotated[Balance, typer.Option(help="How requests are spread over replicas.")] = Balance.ROUND_ROBIN,
    max_queue: Annotated[int, typer.Option(min=1, help="Of each server: inputs that wait or run.")] = 128,
    deadline_s: Annotated[float, typer.Option(min=0.001, help="Of each server: the most time for a request.")] = 30,
    tolerate_failures: Annotated[int, typer.Option(min=0, help="So many replicas may be missing at once.")] = 1,
    headroom: Annotated[float, typer.Option(min=0, help="Per cent more than --rate that the advice bears.")] = 20,
    core_price: Annotated[float, typer.Option(min=0, help="Of a core for an hour, in any currency.")] = 0,
    machine_price: Annotated[float, typer.Option(min=0, help="Of a machine like this one for an hour.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each figure is measured.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulation's chance.")] = 0,
    measured: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plan from what --json printed, and measure nothing.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the measurement and the plan as one JSON object.")
    ] = False,
) -> None:
    """Say how many replicas a rate needs, and what breaks first: measured here, then simulated."""
    log_rate, trace = _trace(arrivals)
    rate = rate if rate is not None else log_rate
    if rate is None:
        raise InputError("--rate: missing: expected requests a second. Give it, or --arrivals FILE.")
    for name, value in {"--rate": rate, "--p99-ms": p99_ms}.items():
        if not 0 < value < float("inf"):
            raise InputError(f"{name}: expected a number above 0, got {value:g}. Correct it.")

    from runtime.artifact.open import open_artifact
    from runtime.capacity.measurement import read_measurement
    from runtime.capacity.planning import Answer, Goal, plan
    from runtime.deploy.ray.predictor import artifact_digest
    from runtime.manifest import struct_to_json
    from runtime.server.limits import Limits

    open_artifact(artifact)
    if measured is not None:
        found = read_measurement(measured)
        digest = artifact_digest(artifact)
        if found.sha256 != digest:
            raise InputError(
                f"'{measured}': measured of another artifact: expected SHA-256 {digest[:12]}..., got "
                f"{found.sha256[:12]}.... Measure this one."
            )
        if replica_cores is not None and replica_cores != found.process_cores:
            raise InputError(
                f"--replica-cores {replica_cores}: '{measured}' was measured with {found.process_cores}. "
                "Measure again with this number, or leave it out."
            )
    else:
        from runtime.capacity.measuring import measure

        with warnings.catch_warnings():
            # Golden inputs ask for a rotation on purpose.
            warnings.filterwarnings("ignore", message=".*EXIF")
            found = measure(artifact, device=device, samples=samples or (), cores=replica_cores, seconds=seconds)
    goal = Goal(
        rate=rate,
        p99_ms=p99_ms,
        trace=trace,
        balancing=balance.value,
        limits=Limits(queue=max_queue, deadline_s=deadline_s),
        tolerate_failures=tolerate_failures,
        headroom=headroom / 100,
        core_price=core_price,
        machine_price=machine_price,
        seed=seed,
    )
    answer = Answer(arrivals=arrivals, balancing=balance.value, seed=seed, measured=found, plan=plan(found, goal))
    if json:
        sys.stdout.write(struct_to_json(answer).decode())
    else:
        from runtime.capacity.printing import print_answer

        print_answer(answer)


def _trace(name: str) -> "tuple[float | None, Callable[[float, int, np.random.Generator], Times]]":
    """Return the rate of the log ``name``, None where it is none, and when requests come, given a rate and a number."""
    from runtime.capacity.arrivals import bursts, poisson, rate_of, read_log, recorded

    shapes = {"poisson": poisson, "bursts": bursts}
    if name in shapes:
        return None, shapes[name]
    path = Path(name)
    if not path.exists():
        raise InputError(f"--arrivals '{name}': unknown: expected poisson, bursts or a file of times. Name one.")
    log = read_log(path)
    return rate_of(log), lambda per_s, count, chance: recorded(log, per_s, count, chance)
