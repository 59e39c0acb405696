"""Runs a sweep, each network in a process of its own, and keeps every result in a file."""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sweeps import cases, image_types, odd_networks, text_types, transformers_types

TIMM_EXPORTS = 60

# Kept in the repository: a sweep takes hours, and goes on where another machine stopped.
RESULTS = Path(__file__).parent / "results"
VERSIONS = {module.__name__: module.__version__.partition("+")[0] for module in (torch, torchvision, timm)}


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep runs: its names, and the case that takes a name and a folder."""

    names: Callable[[], list[str]]
    case: Callable[[str, Path], dict[str, Any]]


SWEEPS: dict[str, Sweep] = {
    "round-trips": Sweep(names=lambda: [*cases.classifiers(), *cases.small_timm()], case=cases.round_trip),
    "exports": Sweep(
        names=lambda: [*cases.classifiers(), *cases.sample(cases.small_timm(), TIMM_EXPORTS)], case=cases.export
    ),
    "transformers": Sweep(
        names=lambda: [*text_types.TEXT, *image_types.IMAGE], case=transformers_types.transformers_type
    ),
    "odd": Sweep(names=lambda: list(odd_networks.ODD), case=odd_networks.odd),
}


def run_case(kind: str, name: str, queue: Any) -> None:
    """Run in a process of its own, where a crash is a result as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = SWEEPS[kind].case(name, Path(folder))
        except Exception as error:
            result = {"passed": False, "error": f"{type(error).__name__}: {error}"}
        if "error" in result:
            result["error"] = result["error"].replace(f"{folder}/", "")  # says nothing to anybody else
        queue.put(result)


def run(kind: str, name: str, limit_s: float) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=run_case, args=(kind, name, queue))
    start = time.perf_counter()
    process.start()
    try:
        while True:
            try:
                result: dict[str, Any] = queue.get(timeout=0.5)
                break
            except Exception:  # queue.Empty: still running, or gone
                if time.perf_counter() - start > limit_s:
                    result = {"passed": False, "error": f"took more than {limit_s:.0f} s"}
                    break
                if not process.is_alive() and queue.empty():
                    result = {"passed": False, "error": f"the process ended with {process.exitcode}"}
                    break
    finally:
        process.join(timeout=2)
        process.kill()
    seconds = round(time.perf_counter() - start, 1)
    return {"name": name, "date": time.strftime("%Y-%m-%d"), "versions": VERSIONS, "seconds": seconds, **result}


def table_of(kind: str, results: list[dict[str, Any]], total: int) -> Table:
    table = Table("", "done", "passed", "share", title=f"{len(results)} of {total}: {kind}", box=None)
    own_group = kind in ("transformers", "odd")
    groups = Counter(kind if own_group else _library(result["name"]) for result in results)
    for group, done in groups.items():
        passed = sum(result["passed"] for result in results if own_group or _library(result["name"]) == group)
        table.add_row(group, str(done), str(passed), f"{passed / done:.1%}")
    return table


def _library(name: str) -> str:
    return "timm" if name.startswith("timm:") else "torchvision"


def fallbacks_of(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results of the legacy exporter: only recurrent networks need it."""
    return [result for result in results if result.get("exporter") == "legacy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=tuple(SWEEPS))
    parser.add_argument("--only", default="", help="text that the names contain")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    parser.add_argument("--limit-s", type=float, default=600, help="seconds for one network")
    parser.add_argument("--again", action="store_true", help="run the failed ones again")
    parser.add_argument("--table", action="store_true", help="only show the results so far")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.kind}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    results = {result["name"]: result for result in map(json.loads, lines) if result["versions"] == VERSIONS}
    names = [name for name in SWEEPS[options.kind].names() if options.only in name]
    if not options.table:
        left = [name for name in names if name not in results or (options.again and not results[name]["passed"])]
        with path.open("a") as stream:
            for name in track(left, description=options.kind, console=Console(stderr=True)):
                results[name] = run(options.kind, name, options.limit_s)
                stream.write(json.dumps(results[name]) + "\n")
                stream.flush()
    done = [results[name] for name in names if name in results]
    console = Console()
    dates = sorted({result["date"] for result in done}) or ["never"]
    versions = ", ".join(f"{name} {version}" for name, version in VERSIONS.items())
    console.print(table_of(options.kind, done, len(names)), f"\n{dates[0]} to {dates[-1]}, {versions}", highlight=False)
    for result in done:
        if not result["passed"]:
            console.print(f"failed: {result['name']}: {result.get('error') or result}"[:400], highlight=False)
    fallbacks = fallbacks_of(done)
    if options.kind != "round-trips":
        console.print(f"converted by the legacy exporter: {len(fallbacks)}", highlight=False)
    for result in fallbacks:
        kind = "recurrent" if result.get("recurrent") else "NOT RECURRENT"
        console.print(f"fallback, {kind}: {result['name']}: {result.get('fallback', '')}"[:400], highlight=False)
    if options.kind == "round-trips":
        alone = Counter(len(result["fits"]) == 1 for result in done if result.get("fits"))
        console.print(f"identified alone: {alone[True]}, as one of a named few: {alone[False]}")
    if not all(result["passed"] for result in done) or not all(result.get("recurrent") for result in fallbacks):
        sys.exit(1)


if __name__ == "__main__":
    main()
