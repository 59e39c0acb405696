"""'predict --engine ray' against 'predict' on this machine, with lost nodes and a killed driver.

Ratios are of runs that follow each other, rate against rate, each after the first rows: starting Ray and loading the
model are not included. The rows of every run are compared, byte by byte, with those of one process.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from support.ray_nodes import LOOPBACK, NodeBuilder, running_nodes

from benchmarks.figures import Figure, Results
from benchmarks.image import TRUECOPY, export_command
from benchmarks.processes import read_processes, with_descendants
from material.jpegs import write_jpegs
from material.paths import ROOT

TINY = ROOT / "tests" / "data" / "tiny"
# Rows before this share are not timed: processes start, and caches fill.
WARM_SHARE = 0.2
BASELINE = "one process, 2 workers"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--photos", type=int, default=20_000, help="rows of the runs that lose a node and a driver")
    parser.add_argument("--timed", type=int, default=1_500, help="rows of the runs that are timed")
    parser.add_argument("--rounds", type=int, default=2)


def measure(options: argparse.Namespace) -> Results:
    """Return what became of the rows in failures, and the rates and costs of one process and of clusters."""
    with tempfile.TemporaryDirectory(prefix="bench-ray-") as scratch:
        folder = Path(scratch)
        figures = lose_and_resume(link_photos(folder / "all", options.photos, small=True), folder, options.photos)
        artifact = folder / "efficientnet-lite0"
        subprocess.run(export_command(artifact), check=True, stdout=subprocess.DEVNULL)
        photos = link_photos(folder / "timed", options.timed)
        figures += time_runs(artifact, photos, folder, options.timed, options.rounds)
    return Results(figures=figures)


def lose_and_resume(photos: Path, folder: Path, count: int) -> list[Figure]:
    """Kill the driver at a third, a node at two thirds of the resumed run, and compare the rows."""
    single = Job(TINY, photos, folder / "single.jsonl")
    single.start()
    single.finish()
    progress(f"{count} small photos, every hundredth damaged: one process {count / single.seconds:.0f} rows/s")
    with running_nodes(folder, {"num_cpus": 0}, {}, {}) as nodes:
        job = Job(TINY, photos, folder / "cluster.jsonl", nodes)
        job.start()
        job.wait_for(count // 3)
        job.kill()
        progress(f"driver killed with {job.rows()} rows written")
        job.start("--resume")
        job.wait_for(2 * count // 3)
        lost = job.rows()
        nodes.kill(2)
        job.finish()
        progress(f"one of two nodes lost at row {lost}; finished in {job.seconds:.1f} s: {job.message}")
    same = (folder / "cluster.jsonl").read_bytes() == (folder / "single.jsonl").read_bytes()
    if not same:
        raise SystemExit("after a lost driver and a lost node, the rows differ from those of one process")
    return [
        Figure(
            promise=f"{count} rows after a lost driver and a lost node",
            measured="equal to those of one process, byte by byte",
            target="equal",
            met=same,
        )
    ]


def time_runs(artifact: Path, photos: Path, folder: Path, count: int, rounds: int) -> list[Figure]:
    """Return rates and costs of one process and of clusters on the same cores, as medians over rounds."""
    layouts: dict[str, list[dict[str, object]]] = {
        "Ray, 1 node of 2 cores": [{"num_cpus": 2}],
        "Ray, 1 node of 1 core": [{"num_cpus": 1}],
        "Ray, 2 nodes of 1 core": [{"num_cpus": 1}, {"num_cpus": 1}],
    }
    measured: dict[str, list[tuple[float, float, float, float]]] = {}
    for number in range(1, rounds + 1):
        progress(f"round {number} of {rounds}, load {os.getloadavg()[0]:.1f}")
        timed = {}
        for workers in (2, 1):
            job = Job(artifact, photos, folder / "plain.jsonl")
            timed[f"one process, {workers} workers"] = job.timed(count, "--workers", str(workers))
        for name, nodes in layouts.items():
            with running_nodes(folder, *nodes) as cluster:
                job = Job(artifact, photos, folder / "ray.jsonl", cluster)
                timed[name] = job.timed(count)
            assert (folder / "plain.jsonl").read_bytes() == (folder / "ray.jsonl").read_bytes(), "rows differ"
        base_rate, base_cost = timed[BASELINE]
        for name, (rate, cost) in timed.items():
            measured.setdefault(name, []).append((rate, rate / base_rate, cost * 1000, cost / base_cost))
    figures = []
    for name, rows in measured.items():
        rate, rate_ratio, cost_ms, cost_ratio = map(median, zip(*rows, strict=True))
        figures.append(
            Figure(
                promise=f"{name}: {count} photos, after the first {WARM_SHARE:.0%}",
                measured=f"{rate:.1f} rows/s, {rate_ratio:.2f} of {BASELINE}; {cost_ms:.1f} ms CPU per row, "
                f"{cost_ratio:.2f} of it",
            )
        )
    return figures


def progress(text: str) -> None:
    """Print a line of progress."""
    print(text, file=sys.stderr, flush=True)


class Job:
    """One 'truecopy predict' in a process of its own."""

    def __init__(self, artifact: Path, photos: Path, out: Path, nodes: NodeBuilder | None = None) -> None:
        self._command = [TRUECOPY, "predict", str(artifact), str(photos), "--out", str(out), "--allow-errors"]
        if nodes is not None:
            self._command += ["--engine", "ray", "--address", nodes.address]
        self._partial = out.with_name(out.name + ".partial")
        self._nodes = nodes
        self._process: subprocess.Popen[str] | None = None
        self.message = ""
        self.seconds = 0.0

    def start(self, *options: str) -> None:
        """Start it."""
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [*self._command, *(options or ("--force",))],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **LOOPBACK},
        )

    def rows(self) -> int:
        """Return the number of rows written so far."""
        return self._partial.read_bytes().count(b"\n") if self._partial.exists() else 0

    def wait_for(self, rows: int) -> None:
        """Wait until ``rows`` rows are written."""
        assert self._process is not None
        while self.rows() < rows:
            assert self._process.poll() is None, self._process.communicate()
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it, as by kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def finish(self) -> None:
        """Wait for its end, which must be a successful one."""
        assert self._process is not None
        _, errors = self._process.communicate()
        assert self._process.returncode == 0, errors
        self.message = next(line for line in errors.splitlines() if " rows, " in line)
        self.seconds = time.monotonic() - self._began

    def timed(self, count: int, *options: str) -> tuple[float, float]:
        """Run it; return its rows per second and its CPU seconds per row, after the first rows.

        The CPU time includes all processes of the cluster; on a shared machine it says more than the rate.
        """
        self.start(*options, "--force")
        self.wait_for(int(count * WARM_SHARE))
        begun, before, spent = time.monotonic(), self.rows(), self._cpu_seconds()
        rows, used = before, spent
        while self._process is not None and self._process.poll() is None:
            written = self.rows()
            if written > rows:
                rows, used = written, self._cpu_seconds()
            time.sleep(0.05)
        seconds = time.monotonic() - begun
        self.finish()
        return (count - before) / seconds, (used - spent) / (rows - before)

    def _cpu_seconds(self) -> float:
        """Return the CPU seconds of the job's process, of its cluster's, and of all that these started."""
        assert self._process is not None
        roots = {self._process.pid, *([self._nodes.pid] if self._nodes is not None else [])}
        processes = read_processes()
        ours = [processes[pid] for pid in with_descendants(roots, processes)]
        return sum(process.cpu_s + process.children_cpu_s for process in ours)


def link_photos(folder: Path, count: int, *, small: bool = False) -> Path:
    """Return a folder of ``count`` links to a few real photos; of small ones, every hundredth is damaged."""
    folder.mkdir()
    if small:
        sources = [TINY.parent / f"{name}.jpg" for name in ("cat", "coffee", "rocket", "astronaut")]
    else:
        sources = write_jpegs(ROOT / "build" / "bench-jpegs")
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        if small and number % 100 == 50:
            path.write_bytes(b"damaged")
        else:
            path.symlink_to(sources[number % len(sources)].absolute())
    return folder
