"""'truecopy serve', and other servers next to it, with EfficientNet-Lite0 and JPEG photos over loopback."""

import argparse
import sys
from collections.abc import Iterable

from rich.table import Table

from benchmarks import servers
from benchmarks.figures import Figure, Results
from benchmarks.server_behavior import MEASUREMENTS, Amounts, measure_peak
from benchmarks.server_comparison import Row, compare, figures_of_comparison
from benchmarks.servers import OURS, PEER_SETUPS, PeerError, ServerSetup, photos, running
from material.paths import ARTIFACT

COMPARE = "compare"
PARTS = (COMPARE, *MEASUREMENTS)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    peers = [setup.name for setup in PEER_SETUPS]
    parser.add_argument("--only", default="all", help="comma-separated parts: " + ", ".join(PARTS))
    parser.add_argument("--peers", default="none", help="'all', 'none', or comma-separated: " + ", ".join(peers))
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the comparison, whose medians count")
    parser.add_argument("--seconds", type=float, default=8, help="duration of each run at 1, 4 and 32 clients")
    parser.add_argument("--half-load", type=float, default=30, help="seconds at half the peak rate")
    parser.add_argument("--overload", type=float, default=15, help="seconds at twice the peak rate")
    parser.add_argument("--soak", type=int, default=2000, help="requests of the soak")
    parser.add_argument("--distinct", type=int, default=1000, help="distinct inputs, 64 at once")
    parser.add_argument("--install", action="store_true", help="install the servers, and measure nothing")


def measure(options: argparse.Namespace) -> Results:
    """Return the figures of the chosen parts, and the rates of the chosen servers."""
    if not ARTIFACT.is_dir():
        raise SystemExit(f"'{ARTIFACT}': not found. Run scripts/demo first.")
    parts = chosen_of(options.only, PARTS, "--only")
    names = chosen_of(options.peers, [setup.name for setup in PEER_SETUPS], "--peers")
    chosen = install_all([OURS, *(setup for setup in PEER_SETUPS if setup.name in names)])
    rows: dict[str, Row] = {}
    figures: list[Figure] = []
    if options.install:
        return Results(figures=figures)
    if COMPARE in parts:
        rows, baseline = compare(chosen, options.rounds, options.seconds)
        figures += figures_of_comparison(rows, baseline)
    # A server of its own for each part, so that none affects the next.
    for name in (part for part in parts if part != COMPARE):
        print(name, file=sys.stderr)
        with running(OURS, ARTIFACT) as server:
            server.wait_until_ready(photos()[0])
            amounts = Amounts(
                peak_per_s=measure_peak(server, min(5.0, options.seconds)),
                half_load_s=options.half_load,
                neighbors_s=options.seconds,
                overload_s=options.overload,
                distinct=options.distinct,
                soak=options.soak,
            )
            figures += MEASUREMENTS[name](server, amounts)
    return Results(figures=figures, details={"servers": rows}, tables=[table_of_servers(rows)] if rows else [])


def table_of_servers(rows: dict[str, Row]) -> Table:
    """Return the rates, costs and latencies of the servers."""
    columns = {
        "per_s_1": "1/s at 1",
        "per_s_4": "at 4",
        "per_s_32": "at 32",
        "cpu_ms_4": "CPU ms at 4",
        "p50_ms_1": "p50 ms at 1",
        "start_s": "start s",
        "resident_mb": "MB",
    }
    table = Table("server", *columns.values(), box=None, header_style="bold")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[key]:.1f}" for key in columns))
    return table


def chosen_of(text: str, known: Iterable[str], option: str) -> list[str]:
    """Return the names that an option lists; exits for an unknown one."""
    known = list(known)
    names = {"all": known, "none": []}.get(text, text.split(","))
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"{option} {', '.join(unknown)}: unknown. Pass 'all', or some of {', '.join(known)}.")
    return [name for name in known if name in names]


def install_all(setups: Iterable[ServerSetup]) -> list[ServerSetup]:
    """Return the servers that could be installed, and report the others."""
    installed = []
    for setup in setups:
        try:
            servers.install(setup.environment)
        except PeerError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        installed.append(setup)
    return installed
