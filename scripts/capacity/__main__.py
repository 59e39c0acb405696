"""Capacity planning from the command line: see scripts/plan-capacity and docs/benchmarks/capacity.md."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from capacity.arrivals import Times, bursts, poisson, rate_of, read_log, recorded
from capacity.cluster import Balancing
from capacity.measurement import Measurement, read_measurement
from capacity.plan import Advice, Goal, plan
from capacity.stages import measure
from capacity.tables import print_advice
from runtime.artifact.open import open_artifact
from runtime.console import DEVICE_HELP, run_app
from runtime.deploy.artifact_copies import artifact_digest
from runtime.errors import InputError
from runtime.manifest import struct_to_json
from runtime.server.limits import Limits

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def main(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="The folder that 'truecopy export' wrote.")],
    p99_ms: Annotated[float, typer.Option("--p99-ms", help="Time within which 99% of the requests get a response.")],
    rate: Annotated[
        float | None,
        typer.Option(help="Requests per second, one input each. Default: the rate of the log of --arrivals."),
    ] = None,
    arrivals: Annotated[
        str, typer.Option(metavar="SHAPE", help="poisson, bursts, or a log file with one time per line.")
    ] = "poisson",
    samples: Annotated[
        list[Path] | None,
        typer.Option(help="Files, folders or tables to measure with; repeat for more. Default: the golden inputs."),
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    replica_cores: Annotated[
        int | None, typer.Option(help="Cores of one server process. Default: all of this machine.")
    ] = None,
    balance: Annotated[Balancing, typer.Option(help="Strategy of the load balancer.")] = "round-robin",
    max_queue: Annotated[int, typer.Option(min=1, help="Most runs that wait or are in progress in one server.")] = 128,
    deadline_s: Annotated[float, typer.Option(min=0.001, help="Deadline of a request in each server.")] = 30,
    tolerate_failures: Annotated[int, typer.Option(min=0, help="Replicas that may fail at the same time.")] = 1,
    headroom: Annotated[float, typer.Option(min=0, help="Headroom above --rate, in percent.")] = 20,
    core_price: Annotated[float, typer.Option(min=0, help="Price of one core per hour, in any currency.")] = 0,
    machine_price: Annotated[float, typer.Option(min=0, help="Price of a machine like this one per hour.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of each measurement.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the simulation.")] = 0,
    measured: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Earlier output of --json to plan from, without measuring.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print measurement and plan as one JSON object.")] = False,
) -> None:
    """Measure an artifact here, simulate replicas of its server, and print how many a rate needs."""
    log_rate, trace = _trace(arrivals)
    rate = rate if rate is not None else log_rate
    if rate is None:
        raise InputError("--rate: missing. Pass the requests per second, or a log with --arrivals.")
    for name, value in {"--rate": rate, "--p99-ms": p99_ms}.items():
        if not 0 < value < float("inf"):
            raise InputError(f"{name}: expected a number above 0, got {value:g}. Pass another value.")
    open_artifact(artifact)
    if measured is not None:
        measurement = _matching_measurement(measured, artifact, replica_cores)
    else:
        with warnings.catch_warnings():
            # Golden inputs ask for a rotation on purpose.
            warnings.filterwarnings("ignore", message=".*EXIF")
            measurement = measure(artifact, device=device, samples=samples or (), cores=replica_cores, seconds=seconds)
    goal = Goal(
        rate=rate,
        p99_ms=p99_ms,
        trace=trace,
        balancing=balance,
        limits=Limits(queue=max_queue, deadline_s=deadline_s),
        tolerate_failures=tolerate_failures,
        headroom=headroom / 100,
        core_price=core_price,
        machine_price=machine_price,
        seed=seed,
    )
    advice = Advice(arrivals=arrivals, balancing=balance, seed=seed, measured=measurement, plan=plan(measurement, goal))
    if json:
        sys.stdout.write(struct_to_json(advice).decode())
    else:
        print_advice(advice)


def _matching_measurement(path: Path, artifact: Path, replica_cores: int | None) -> Measurement:
    """Return the measurement in a file; raises InputError where it is of another artifact or number of cores."""
    measurement = read_measurement(path)
    digest = artifact_digest(artifact)
    if measurement.sha256 != digest:
        raise InputError(
            f"'{path}': measurement of another artifact: expected SHA-256 {digest[:12]}..., got "
            f"{measurement.sha256[:12]}.... Measure this artifact."
        )
    if replica_cores is not None and replica_cores != measurement.process_cores:
        raise InputError(
            f"--replica-cores {replica_cores}: '{path}' was measured with {measurement.process_cores}. "
            "Measure again with this number, or omit the option."
        )
    return measurement


def _trace(name: str) -> tuple[float | None, Callable[[float, int, np.random.Generator], Times]]:
    """Return the rate of the log ``name``, None where it is a shape, and a function of a rate, a count and a generator.

    Raises InputError where ``name`` is neither a shape nor a file.
    """
    shapes = {"poisson": poisson, "bursts": bursts}
    if name in shapes:
        return None, shapes[name]
    path = Path(name)
    if not path.exists():
        raise InputError(f"--arrivals '{name}': unknown. Pass poisson, bursts or a file of times.")
    log = read_log(path)
    return rate_of(log), lambda per_s, count, generator: recorded(log, per_s, count, generator)


if __name__ == "__main__":
    run_app(app)
