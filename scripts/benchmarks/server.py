"""Measure 'truecopy serve', and other servers beside it, with EfficientNet-Lite0 and JPEG photos on loopback.

Ratios within one run are what counts; the load of the machine is printed with them.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict

import bench_subjects as subjects
from bench_behaviour import MEASUREMENTS, Amounts, measure_peak
from bench_comparison import Row, compare, figures_of_comparison
from bench_subjects import ARTIFACT, OURS, PEER_SUBJECTS, Figure, PeerError, Subject, photos, running
from rich.console import Console
from rich.table import Table

COMPARE = "compare"


def print_tables(rows: dict[str, Row], figures: list[Figure]) -> None:
    """Print what was measured for people."""
    console = Console(width=150)
    columns = {
        "per_s_1": "1/s at 1",
        "per_s_4": "at 4",
        "per_s_32": "at 32",
        "cpu_ms_4": "CPU ms at 4",
        "p50_ms_1": "p50 ms at 1",
        "start_s": "start s",
        "resident_mb": "MB",
    }
    if rows:
        table = Table("server", *columns.values(), box=None, header_style="bold")
        for name, row in rows.items():
            table.add_row(name, *(f"{row[key]:.1f}" for key in columns))
        console.print(table)
    table = Table("promise", "measured", "target", "", box=None, header_style="bold", pad_edge=False)
    for figure in figures:
        verdict = {True: "met", False: "[red]missed[/]", None: ""}[figure.met]
        table.add_row(figure.promise, figure.measured, figure.target, verdict)
    console.print(table)
    console.print(
        f"load average: {', '.join(f'{load:.1f}' for load in os.getloadavg())} (1, 5, 15 min) on {os.cpu_count()} cores"
    )


def chosen_of(text: str, known: Iterable[str], option: str) -> list[str]:
    """Return the names that an option lists; ends the program for one that is unknown."""
    known = list(known)
    names = {"all": known, "none": []}.get(text, text.split(","))
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"{option} {', '.join(unknown)}: unknown: expected 'all', or some of {', '.join(known)}")
    return [name for name in known if name in names]


def install_all(wanted: Iterable[Subject]) -> list[Subject]:
    """Return the servers that could be installed; the others are left out, aloud."""
    installed = []
    for subject in wanted:
        try:
            subjects.install(subject.environment)
        except PeerError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        installed.append(subject)
    return installed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="scripts/bench-server")
    peers = [subject.name for subject in PEER_SUBJECTS]
    parts = [COMPARE, *MEASUREMENTS]
    parser.add_argument("--only", default="all", help="these parts, by comma: " + ", ".join(parts))
    parser.add_argument("--peers", default="none", help="'all', 'none', or by comma: " + ", ".join(peers))
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison; medians count")
    parser.add_argument("--seconds", type=float, default=8, help="of each run at 1, 4 and 32 clients")
    parser.add_argument("--half-load", type=float, default=30, help="seconds of half the peak")
    parser.add_argument("--overload", type=float, default=15, help="seconds of twice the peak")
    parser.add_argument("--soak", type=int, default=2000, help="requests of the soak")
    parser.add_argument("--distinct", type=int, default=1000, help="distinct inputs, 64 at once")
    parser.add_argument("--install", action="store_true", help="install what would be measured, and measure nothing")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of tables")
    options = parser.parse_args()
    if not ARTIFACT.is_dir():
        raise SystemExit(f"no '{ARTIFACT}': run scripts/demo first")
    wanted = chosen_of(options.only, parts, "--only")
    names = chosen_of(options.peers, peers, "--peers")
    chosen = install_all([OURS, *(subject for subject in PEER_SUBJECTS if subject.name in names)])
    if options.install:
        return
    rows: dict[str, Row] = {}
    figures: list[Figure] = []
    if COMPARE in wanted:
        rows, baseline = compare(chosen, options.rounds, options.seconds)
        figures += figures_of_comparison(rows, baseline)
    # A server of its own for each part: what one leaves behind is not the next one's.
    for name in (part for part in wanted if part != COMPARE):
        print(name, file=sys.stderr)
        with running(OURS, ARTIFACT) as server:
            server.wait_until_ready(photos()[0])
            amounts = Amounts(
                peak_per_s=measure_peak(server, min(5.0, options.seconds)),
                half_load_s=options.half_load,
                neighbours_s=options.seconds,
                overload_s=options.overload,
                distinct=options.distinct,
                soak=options.soak,
            )
            figures += MEASUREMENTS[name](server, amounts)
    if options.json:
        print(json.dumps({"servers": rows, "figures": [asdict(figure) for figure in figures]}, indent=2))
    else:
        print_tables(rows, figures)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
