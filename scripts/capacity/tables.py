"""Tables of a plan on a terminal."""

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from capacity.measurement import Measurement
from capacity.plan import SHARE, Advice, Load, Plan
from capacity.simulation_inputs import core_ms
from runtime.console import open_console

# What breaks first, in words.
_FIRST = {
    "p99": "responses miss the target (p99)",
    "429": "requests are refused (429), as the queues are full",
    "504": "requests reach their deadline (504)",
}

# Above this share of time lost to others, the measurement is of a machine that did something else.
_BUSY_MACHINE = 0.1


def print_advice(advice: Advice) -> None:
    """Print a measurement and the plan that follows from it."""
    console = open_console()
    _print_measurement(console, advice.measured)
    console.print()
    _print_plan(console, advice)


def _print_measurement(console: Console, measured: Measurement) -> None:
    console.print(
        f"{escape(measured.artifact)} on {measured.device}, {measured.cores} cores, {len(measured.inputs)} inputs; "
        f"load average before: {measured.load1:.1f}",
        soft_wrap=True,
    )
    if measured.lost_share > _BUSY_MACHINE:
        console.print(
            f"[yellow]note[/]  other programs had {measured.lost_share:.0%} of the time: processor times are counted, "
            "but caches and memory were shared. Measure on a quiet machine.",
            soft_wrap=True,
        )
    parts = core_ms(measured)
    total = sum(parts.values())
    table = Table("per request", "core ms", "share", box=None, header_style="bold", pad_edge=False)
    names = {"server": "HTTP, JSON, labels, thread hand-off"}
    for name, value in parts.items():
        if value or name != "network":
            table.add_row(names.get(name, name), f"{value:.2f}", f"{value / total:.0%}")
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)
    smallest, largest = (choose(measured.inputs, key=lambda times: times.size_bytes) for choose in (min, max))
    console.print(
        f"by size: {smallest.size_bytes / 1024:.0f} KB decode {smallest.decode_ms:.1f} + geometry "
        f"{smallest.geometry_ms:.1f} ms; {largest.size_bytes / 1024:.0f} KB {largest.decode_ms:.1f} + "
        f"{largest.geometry_ms:.1f} ms",
        soft_wrap=True,
    )
    batches = ", ".join(f"{batch.size}: {batch.network_ms / batch.size:.2f}" for batch in measured.batches)
    console.print(f"network, ms per input by batch size: {batches}", soft_wrap=True)
    busy = ", ".join(f"{busy.workers}: {busy.slowdown:.2f}" for busy in measured.busy)
    console.print(f"slowdown of the stages by concurrent workers: {busy}", soft_wrap=True)
    server = measured.server
    console.print(
        f"server: ready in {server.start_s:.1f} s, {server.resident_mb:.0f} MB; a lone request "
        f"{server.lone_p50_ms:.1f} ms on loopback",
        soft_wrap=True,
    )


def _print_plan(console: Console, advice: Advice) -> None:
    plan = advice.plan
    console.print(
        f"[bold]{_count(plan.replicas, 'replica')}[/] of {_count(plan.replica_cores, 'core')}: "
        f"{_count(plan.cores, 'core')}, {_count(plan.machines, 'machine')} like this, "
        f"{_memory(plan.resident_mb)} (and {_memory(plan.waiting_mb)} when all queues are full)",
        soft_wrap=True,
    )
    console.print(
        f"for {plan.rate:g} requests per second ({escape(advice.arrivals)}, {advice.balancing}), {SHARE:.0%} within "
        f"{plan.p99_ms:g} ms, with {plan.headroom:.0%} headroom; {plan.least_replicas} suffice without incidents",
        soft_wrap=True,
    )
    if plan.cost_per_hour is not None and plan.cost_per_million is not None:
        console.print(f"cost: {plan.cost_per_hour:.2f} per hour, {plan.cost_per_million:.2f} per million requests")
    console.print()
    table = Table(
        *("", "p50 ms", "p99 ms", "refused", "late", "lost", "cores busy"),
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for column in table.columns[1:]:
        column.justify = "right"
    rows: dict[str, Load] = {"as planned": plan.steady}
    if plan.losing is not None:
        rows["replicas failed, not yet back"] = plan.losing
    rows[f"rolling update, {_seconds(plan.update_s)}"] = plan.updating
    rows[f"{plan.breaks.beyond.rate:.0f} per second"] = plan.breaks.beyond
    for name, load in rows.items():
        table.add_row(
            name,
            _ms(load.p50_ms),
            _ms(load.p99_ms),
            *(f"{share:.1%}" if share else "0" for share in (load.refused, load.late, load.lost)),
            f"{load.cores:.0%}",
        )
    console.print(table)
    breaks = plan.breaks
    refusals = (
        "none is refused at any rate: they wait for the event loop"
        if breaks.refuses_from is None
        else f"from {breaks.refuses_from:.0f} per second requests are refused"
    )
    console.print(
        f"breaks first: above {breaks.rate:.0f} per second {_FIRST[breaks.first]}; {refusals}. "
        f"Bottleneck: {_bottleneck(plan)}.",
        soft_wrap=True,
    )
    console.print(
        f"around it: {plan.ingress_gbit_s:.2f} Gbit/s in, {plan.egress_gbit_s:.2f} Gbit/s out; the artifact "
        f"on every machine is {plan.artifact_copies_gb:.1f} GB",
        soft_wrap=True,
    )


def _bottleneck(plan: Plan) -> str:
    breaks = plan.breaks
    return {
        "cores": f"cores, most of whose time goes to {'the ' if breaks.stage != 'geometry' else ''}{breaks.stage}",
        "event loop": "the event loop, one thread per process: use more processes of fewer cores",
        "device": "the device that the network runs on",
    }[breaks.bottleneck]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _memory(megabytes: float) -> str:
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1024 else f"{megabytes:.0f} MB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _ms(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"
