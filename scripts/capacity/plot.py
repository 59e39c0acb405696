"""Table and plot of docs/benchmarks/capacity.md: needs of up to a million requests per second."""

import argparse
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from capacity.measurement import Measurement, read_measurement
from capacity.plan import Goal
from capacity.scale import Scale, Surroundings, scale
from capacity.simulation_inputs import core_ms
from capacity.stages import measure
from material.paths import ARTIFACT, PHOTOS, ROOT

PLOT = ROOT / "docs" / "benchmarks" / "capacity.svg"
TABLE_RATES = (100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0)


def to_markdown(scales: list[Scale]) -> str:
    """Return the table of docs/benchmarks/capacity.md."""
    columns = (
        *("requests per second", "replicas", "cores", "of these without the network", "machines", "Gbit/s in"),
        *("balancers", "artifact to all", "update one by one", "more than one is needed of"),
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in scales:
        cells = [
            *(f"{value:,.0f}" for value in (row.rate, row.replicas, row.cores, row.host_cores, row.machines)),
            f"{row.ingress_gbit_s:.3g}",
            f"{row.balancers}",
            f"{row.rollout_s:.2g} s",
            f"{row.update_s / 60:,.0f} min",
            ", ".join(row.exhausted) or "nothing",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(scales: list[Scale], path: Path, title: str) -> None:
    """Draw the utilization of one of each resource over the rate."""
    # The same bytes every time.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "capacity", "font.size": 9}):
        figure = Figure(figsize=(7.5, 4.5), layout="constrained")
        axes = figure.subplots()
        rates = [row.rate for row in scales]
        for name in scales[0].used:
            used = np.array([row.used[name] for row in scales])
            (line,) = axes.loglog(rates, used, label=name)
            beyond = np.flatnonzero(used > 1)
            if len(beyond):
                first = beyond[0]
                axes.plot(rates[first], used[first], "o", color=line.get_color())
        axes.axhline(1, color="black", linewidth=0.8, linestyle="--")
        axes.minorticks_off()
        axes.set_xlabel("requests per second")
        axes.set_ylabel("used of one, or of the time allowed")
        axes.set_ylim(1e-4, 1e3)
        axes.set_title(title, fontsize=9)
        axes.grid(visible=True, which="major", linewidth=0.3)
        axes.legend(loc="upper left", fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def measurement_of(options: argparse.Namespace) -> Measurement:
    """Return the measurement that the options name, or a new one of this machine."""
    if options.measured:
        return read_measurement(options.measured)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*EXIF")
        return measure(ARTIFACT, device="cpu", samples=[PHOTOS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured", type=Path, help="output of 'scripts/plan-capacity --json', instead of measuring")
    parser.add_argument("--p99-ms", type=float, default=80)
    parser.add_argument("--out", type=Path, default=PLOT)
    options = parser.parse_args()
    measured = measurement_of(options)
    goal = Goal(rate=1, p99_ms=options.p99_ms)
    parts = ", ".join(f"{name} {value:.2f}" for name, value in core_ms(measured).items())
    print(
        f"{measured.artifact}, {measured.cores} cores, load average before {measured.load1:.1f}, other programs had "
        f"{measured.lost_share:.0%} of the time. Core ms per request: {parts}. Body "
        f"{np.mean([times.size_bytes for times in measured.inputs]) / 1000:.0f} kB. {Surroundings()}\n"
    )
    scales = scale(measured, goal, [*TABLE_RATES, *np.logspace(1, 6, 41).tolist()])
    print(to_markdown(scales[: len(TABLE_RATES)]))
    title = f"{measured.artifact}, 99% within {options.p99_ms:g} ms"
    plot(scales[len(TABLE_RATES) :], options.out, title)
    print(f"\n{options.out} written")


if __name__ == "__main__":
    main()
