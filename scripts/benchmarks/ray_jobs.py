"""Measure 'truecopy predict --engine ray' beside 'truecopy predict' on this machine, and kill what it runs on.

Ratios are of runs that follow each other, rate against rate, each from the first row to the last: starting Ray and
loading the model are told apart. Every run's rows are compared, byte by byte, with those of one process.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from bench_material import write_jpegs  # noqa: E402
from support.ray_nodes import LOOPBACK, NodeBuilder, running_nodes  # noqa: E402

MATERIAL = ROOT / "build" / "demo"
TINY = ROOT / "tests" / "data" / "tiny"
# Rows before this share are not timed: processes start, and caches fill.
WARM_SHARE = 0.2
TRUECOPY = [str(Path(sys.executable).with_name("truecopy"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=20_000, help="rows of the runs that lose a node and a driver")
    parser.add_argument("--timed", type=int, default=1_500, help="rows of the runs that are timed")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-ray-") as scratch:
        folder = Path(scratch)
        lose_and_resume(link_photos(folder / "all", options.photos, small=True), folder, options.photos)
        time_runs(
            export_real(folder), link_photos(folder / "timed", options.timed), folder, options.timed, options.rounds
        )


def lose_and_resume(photos: Path, folder: Path, count: int) -> None:
    """Kill the driver at a third, a node at two thirds of the resumed run, and compare the rows."""
    single = Job(TINY, photos, folder / "single.jsonl")
    single.start()
    single.finish()
    print(f"{count} small photos, every hundredth damaged: one process {count / single.seconds:.0f} rows/s", flush=True)
    with running_nodes(folder, {"num_cpus": 0}, {}, {}) as nodes:
        job = Job(TINY, photos, folder / "cluster.jsonl", nodes)
        job.start()
        job.wait_for(count // 3)
        job.kill()
        print(f"driver killed with {job.rows()} rows written", flush=True)
        job.start("--resume")
        job.wait_for(2 * count // 3)
        lost = job.rows()
        nodes.kill(2)
        job.finish()
        print(f"one of two nodes lost at row {lost}; finished in {job.seconds:.1f} s: {job.message}")
    same = (folder / "cluster.jsonl").read_bytes() == (folder / "single.jsonl").read_bytes()
    print(f"rows equal those of one process, byte by byte: {same}", flush=True)
    if not same:
        sys.exit(1)


def time_runs(artifact: Path, photos: Path, folder: Path, count: int, rounds: int) -> None:
    """Time one process and clusters on the same cores, one after the other."""
    layouts: dict[str, list[dict[str, object]]] = {
        "Ray, 1 node of 2 cores": [{"num_cpus": 2}],
        "Ray, 1 node of 1 core": [{"num_cpus": 1}],
        "Ray, 2 nodes of 1 core": [{"num_cpus": 1}, {"num_cpus": 1}],
    }
    print(f"{count} photos of 0.3 to 2 megapixels, EfficientNet-Lite0; after the first {WARM_SHARE:.0%} of the rows")
    for number in range(1, rounds + 1):
        figures = {}
        for workers in (2, 1):
            job = Job(artifact, photos, folder / "plain.jsonl")
            figures[f"one process, {workers} workers"] = job.timed(count, "--workers", str(workers))
        for name, nodes in layouts.items():
            with running_nodes(folder, *nodes) as cluster:
                job = Job(artifact, photos, folder / "ray.jsonl", cluster)
                figures[name] = job.timed(count)
            assert (folder / "plain.jsonl").read_bytes() == (folder / "ray.jsonl").read_bytes(), "rows differ"
        print(f"round {number}, load {os.getloadavg()[0]:.1f}")
        rate, cost = figures["one process, 2 workers"]
        for name, (one_rate, one_cost) in figures.items():
            print(
                f"  {name:26} {one_rate:6.1f} rows/s, {one_rate / rate:5.2f} of one process;"
                f" {one_cost * 1000:6.1f} ms CPU a row, {one_cost / cost:5.2f} of it",
                flush=True,
            )


class Job:
    """One 'truecopy predict' in a process of its own."""

    def __init__(self, artifact: Path, photos: Path, out: Path, nodes: NodeBuilder | None = None) -> None:
        self._command = [*TRUECOPY, "predict", str(artifact), str(photos), "--out", str(out), "--allow-errors"]
        if nodes is not None:
            self._command += ["--engine", "ray", "--address", nodes.address]
        self._partial = out.with_name(out.name + ".partial")
        self._nodes = nodes
        self._process: subprocess.Popen[str] | None = None
        self.message = ""
        self.seconds = 0.0

    def start(self, *options: str) -> None:
        """Start it, again perhaps."""
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [*self._command, *(options or ("--force",))],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **LOOPBACK},
        )

    def rows(self) -> int:
        """Return how many rows are written, while it runs."""
        return self._partial.read_bytes().count(b"\n") if self._partial.exists() else 0

    def wait_for(self, rows: int) -> None:
        """Return once so many rows are written."""
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
        """Wait for its end, which is to be a good one."""
        assert self._process is not None
        _, errors = self._process.communicate()
        assert self._process.returncode == 0, errors
        self.message = next(line for line in errors.splitlines() if " rows, " in line)
        self.seconds = time.monotonic() - self._began

    def timed(self, count: int, *options: str) -> tuple[float, float]:
        """Run it; return its rows a second, and its CPU seconds a row, after the first ones.

        On a machine that others use, too, the CPU time tells more: all processes of the cluster are in it.
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
        """Return the CPU time of the job's process, of its cluster's, and of all that these started."""
        assert self._process is not None
        roots = {self._process.pid, *([self._nodes.pid] if self._nodes is not None else [])}
        parents: dict[int, int] = {}
        ticks: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name, in brackets, may hold spaces.
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            pid = int(stat.parent.name)
            parents[pid] = int(fields[1])
            ticks[pid] = sum(int(field) for field in fields[11:15])

        def ours(pid: int) -> bool:
            while pid and pid not in roots:
                pid = parents.get(pid, 0)
            return pid in roots

        return sum(count for pid, count in ticks.items() if ours(pid)) / os.sysconf("SC_CLK_TCK")


def export_real(folder: Path) -> Path:
    """Return the artifact of a real network with its real weights."""
    artifact = folder / "efficientnet-lite0"
    subprocess.run(
        [
            *TRUECOPY,
            "export",
            str(MATERIAL / "efficientnet-lite0.pth"),
            *("--arch", "efficientnet_lite_pytorch:EfficientNet.from_name"),
            *("--arch-arg", "model_name=efficientnet-lite0"),
            *("--preprocess", str(ROOT / "scripts" / "examples" / "efficientnet_lite0.py") + ":transform"),
            *("--labels", str(MATERIAL / "imagenet.txt")),
            *("--out", str(artifact)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return artifact


def link_photos(folder: Path, count: int, *, small: bool = False) -> Path:
    """Return a folder of ``count`` names for a few real photos; of small ones, every hundredth is damaged."""
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


if __name__ == "__main__":
    main()
