"""Runs one benchmark: scripts/bench [WHAT] [OPTIONS]."""

import argparse
import json
import os
import sys
from importlib import import_module

from rich.console import Console

from benchmarks.figures import table_of

# Each module has ``add_options(parser)`` and ``measure(options) -> Results``; only the chosen one is imported.
BENCHMARKS = {
    "image": "benchmarks.image",
    "runtime": "benchmarks.throughput",
    "tabular": "benchmarks.tabular",
    "text": "benchmarks.text",
    "precision": "benchmarks.precision",
    "server": "benchmarks.server",
    "gpu": "benchmarks.gpu",
    "own-time": "benchmarks.own_time",
    "stand-in": "benchmarks.stand_in",
    "ray": "benchmarks.ray_jobs",
    "memory": "benchmarks.memory",
    "capacity": "benchmarks.capacity_prediction",
}


def main(arguments: list[str]) -> None:
    """Run the benchmark that ``arguments`` name, by default 'image', and print its figures."""
    name, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in BENCHMARKS else ("image", arguments)
    module = import_module(BENCHMARKS[name])
    parser = argparse.ArgumentParser(
        prog=f"scripts/bench {name}",
        description=module.__doc__,
        epilog=f"Benchmarks: {', '.join(BENCHMARKS)}; by default 'image'.",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of tables")
    module.add_options(parser)
    options = parser.parse_args(rest)
    before = os.getloadavg()[0]
    results = module.measure(options)
    if options.json:
        print(json.dumps(results.to_json(), indent=2))
        return
    console = Console(width=150)
    for table in (*results.tables, table_of(results.figures)):
        console.print(table, highlight=False)
    cores = len(os.sched_getaffinity(0))
    console.print(f"load average: {before:.1f} before, {os.getloadavg()[0]:.1f} after, on {cores} cores")


if __name__ == "__main__":
    main(sys.argv[1:])
