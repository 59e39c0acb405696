"""Mutation testing: plants every fault, one after the other, and writes the outcomes into benchmarks/mutants.md."""

import argparse
import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "mutants.md"
RESULTS = ROOT / "build" / "mutants" / "results.jsonl"
BEGIN, END = "<!-- from here on written by scripts/mutants -->", "<!-- up to here -->"

# Faults that a process judges one after the other: it exports a subject honestly only once.
_CHUNK = 12


def sources() -> str:
    """Return a digest of the sources that an outcome depends on: results of other sources do not count."""
    digest = hashlib.sha256()
    for folder in ("exporter", "runtime", "tests/mutation"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != Path(__file__):  # it runs the faults, and does not judge them
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def judge(names: Sequence[str]) -> list[bytes]:
    """Judge some faults, in a process of its own."""
    import torch
    from mutation.judging import FAULTS, Bench

    torch.set_num_threads(1)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        bench = Bench(Path(folder))
        for name in names:
            start = time.perf_counter()
            try:
                outcome = bench.judge(FAULTS[name])
            except Exception as error:
                outcome = crashed(FAULTS[name], error)
            seconds = round(time.perf_counter() - start, 1)
            outcomes.append(msgspec.json.encode(msgspec.structs.replace(outcome, seconds=seconds)))
    return outcomes


def crashed(fault: Any, error: Exception) -> Any:
    """Return the outcome of a fault that could not be planted, with the reason."""
    from mutation.judging import Outcome

    traceback.print_exception(error)
    return Outcome(
        fault=fault.name,
        subject=fault.subject,
        expected=fault.stages,
        story=fault.story,
        served=False,
        torchscript=False,
        caught=False,
        stage="",
        reason=f"could not be planted: {type(error).__name__}: {error}",
        verify="",
    )


def pin(cores: "multiprocessing.Queue[int]") -> None:
    """Keep a process on one core: two processes run faster on a core each than on both."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})


def chunks(names: Sequence[str], subjects: dict[str, str]) -> Iterator[list[str]]:
    """Yield the faults of one subject together, at most ``_CHUNK`` at once."""
    for subject in dict.fromkeys(subjects[name] for name in names):
        own = [name for name in names if subjects[name] == subject]
        for start in range(0, len(own), _CHUNK):
            yield own[start : start + _CHUNK]


def main() -> None:
    from mutation.judging import FAULTS, Outcome
    from mutation.table import summary_of, table_of

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="text that the names, or the subjects' names, contain")
    parser.add_argument("--table", action="store_true", help="write the table of the outcomes so far, and run nothing")
    options = parser.parse_args()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    version = sources()
    done: dict[str, Outcome] = {}
    lines = RESULTS.read_bytes().splitlines() if RESULTS.exists() else []
    for line in lines:
        key, _, data = line.partition(b" ")
        if key.decode() == version:
            outcome = msgspec.json.decode(data, type=Outcome)
            done[outcome.fault] = outcome
    chosen = [name for name, fault in FAULTS.items() if options.only in name or options.only in fault.subject]
    left = [name for name in chosen if name not in done]
    start = time.perf_counter()
    if left and not options.table:
        work = list(chunks(left, {name: FAULTS[name].subject for name in left}))
        context = multiprocessing.get_context("spawn")
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(2))
        queue = context.Queue()
        for core in cores:
            queue.put(core)
        with context.Pool(min(len(cores), len(work)), pin, (queue,)) as pool, RESULTS.open("ab") as stream:
            for judged in pool.imap_unordered(judge, work):
                for data in judged:
                    stream.write(f"{version} ".encode() + data + b"\n")
                    outcome = msgspec.json.decode(data, type=Outcome)
                    done[outcome.fault] = outcome
                    state = "caught" if outcome.caught else "MISSED"
                    words = f"{outcome.fault}: {state}, {outcome.stage or '-'}; verify: {outcome.verify or '-'}"
                    print(f"{len(done)} of {len(FAULTS)}  {words[:150]}", flush=True)
                stream.flush()
    outcomes = [done[name] for name in FAULTS if name in done]
    print(summary_of(outcomes, len(FAULTS)))
    for outcome in outcomes:
        for what, wrong in problems(outcome):
            if wrong:
                print(f"{what}: {outcome.fault} ({outcome.subject}): {outcome.reason[:300]} | {outcome.verify}")
    if len(outcomes) == len(FAULTS):
        write_page(table_of(outcomes))
        print(f"{PAGE.relative_to(ROOT)} written after {time.perf_counter() - start:.0f} s")
    counts = Counter(what for outcome in outcomes for what, wrong in problems(outcome) if wrong)
    sys.exit(1 if counts["missed"] or counts["changes nothing"] or counts["verify missed"] else 0)


def problems(outcome: "Outcome") -> list[tuple[str, bool]]:  # type: ignore[name-defined]  # noqa: F821
    return [
        ("changes nothing", outcome.broken),
        ("missed", not outcome.caught and "golden" not in outcome.expected),
        ("another stage", outcome.caught and not outcome.right_stage),
        ("verify missed", outcome.verify_owes and not outcome.verify),
    ]


def write_page(table: str) -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
