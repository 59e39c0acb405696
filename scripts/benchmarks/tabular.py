"""Figures for rows, beside the eager script: one row at a time, and a file of a million.

scripts/bench calls ``main``; alone: .venv/bin/python scripts/bench_rows.py [ROWS]
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "examples"))

import iris
import sklearn.datasets

import exporter
import runtime

_REPEATS = 300

# A child of a process that has torch starts out as large as that; so a small one starts it.
_LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def median_ms(call: Callable[[], object]) -> float:
    """Return the median time of a call in milliseconds, after a few to warm up."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times[20:])) * 1e3


def measure_single(folder: Path) -> dict[str, float]:
    """Return milliseconds for one row of iris: the eager script, Model.run and Model.predict."""
    network, scaler = iris.train(folder)
    exporter.export(folder / "iris.pth", network, preprocess=str(folder / "scaler.skops"), out=folder / "artifact")
    frame = sklearn.datasets.load_iris(as_frame=True).data
    row = frame.iloc[:1]
    model = runtime.load(folder / "artifact", threads=1)
    given = row.to_dict("records")[0]
    arrays = model.stack([model.prepare(given)])

    def eager() -> object:
        with torch.no_grad():
            return torch.softmax(network(torch.from_numpy(scaler.transform(row)).float()), dim=-1)

    return {
        "eager_ms": median_ms(eager),
        "run_ms": median_ms(lambda: model.run(arrays)),
        "predict_ms": median_ms(lambda: model.predict(given)),
    }


def measure_stream(folder: Path, rows: int) -> dict[str, float]:
    """Return seconds, peak megabytes and rows out for a CSV of ``rows`` rows through ``truecopy predict``."""
    lines = (folder / "iris.csv").read_text().splitlines()
    header, body = lines[0].rpartition(",")[0], [line.rpartition(",")[0] for line in lines[1:]]
    with (folder / "many.csv").open("w") as stream:
        stream.write(f"{header}\n")
        for start in range(0, rows, len(body)):
            stream.writelines(f"{line}\n" for line in body[: rows - start])
    program = Path(sys.executable).parent / "truecopy"
    start = time.perf_counter()
    with (folder / "out.jsonl").open("w") as out:
        command = [program, "predict", folder / "artifact", folder / "many.csv", "--format", "jsonl"]
        done = subprocess.run(
            [sys.executable, "-c", _LAUNCHER, *command], stdout=out, stderr=subprocess.PIPE, text=True, check=True
        )
    seconds = time.perf_counter() - start
    with (folder / "out.jsonl").open() as stream:
        count = ordered = 0
        for count, line in enumerate(stream, start=1):
            ordered += json.loads(line)["input"].endswith(f"#{count}")
    peak = int(done.stderr) / 1024
    return {"seconds": seconds, "peak_mb": peak, "rows_out": count, "rows_in_order": ordered}


def main(rows: int = 1_000_000) -> dict[str, float]:
    """Return all figures."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        return {**measure_single(folder), **measure_stream(folder, rows)}


if __name__ == "__main__":
    figures = main(*map(int, sys.argv[1:]))
    for name, value in figures.items():
        print(f"{name:14} {value:.4g}")
