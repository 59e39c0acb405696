"""Rows of a table: one row at a time against the eager script, and a file of a million rows."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import iris
import sklearn.datasets
import torch

import exporter
import runtime
from benchmarks.figures import Figure, Results
from benchmarks.timing import median_ms, run

_ROUNDS = 280


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000, help="rows of the file")


def measure(options: argparse.Namespace) -> Results:
    """Return the figures of single rows and of the file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        single, stream = measure_single(folder), measure_stream(folder, options.rows)
    return Results(
        figures=[
            Figure(
                promise="one row of iris, against the eager script",
                measured=f"{single['eager_ms'] / single['predict_ms']:.2f} times faster ({single['predict_ms']:.3f} "
                f"ms, of which run {single['run_ms']:.3f}; eager {single['eager_ms']:.3f} ms)",
            ),
            Figure(
                promise=f"a file of {options.rows} rows",
                measured=f"{stream['seconds']:.1f} s, {stream['peak_mb']:.0f} MB, {stream['rows_in_order']} in order",
                target="every row, in order",
                met=stream["rows_in_order"] == stream["rows_out"] == options.rows,
            ),
        ],
        details={**single, **stream},
    )


def measure_single(folder: Path) -> dict[str, float]:
    """Return the milliseconds of one row of iris: the eager script, Model.run and Model.predict."""
    network, scaler = iris.train(folder)
    exporter.export(folder / "iris.pth", network, preprocess=str(folder / "scaler.skops"), out=folder / "artifact")
    frame = sklearn.datasets.load_iris(as_frame=True).data
    row = frame.iloc[:1]
    model = runtime.load(folder / "artifact", threads=1)
    record = row.to_dict("records")[0]
    arrays = model.stack([model.prepare(record)])

    def eager() -> object:
        with torch.no_grad():
            return torch.softmax(network(torch.from_numpy(scaler.transform(row)).float()), dim=-1)

    eager_ms, run_ms, predict_ms = median_ms(
        [eager, lambda: model.run(arrays), lambda: model.predict(record)], _ROUNDS, warm_up=20
    )
    return {"eager_ms": eager_ms, "run_ms": run_ms, "predict_ms": predict_ms}


def measure_stream(folder: Path, rows: int) -> dict[str, float]:
    """Return seconds, peak megabytes and output rows for a CSV of ``rows`` rows through ``truecopy predict``."""
    lines = (folder / "iris.csv").read_text().splitlines()
    header, body = lines[0].rpartition(",")[0], [line.rpartition(",")[0] for line in lines[1:]]
    with (folder / "many.csv").open("w") as stream:
        stream.write(f"{header}\n")
        for start in range(0, rows, len(body)):
            stream.writelines(f"{line}\n" for line in body[: rows - start])
    program = Path(sys.executable).parent / "truecopy"
    command = [program, "predict", folder / "artifact", folder / "many.csv", "--format", "jsonl"]
    measured = run([str(word) for word in command], stdout=folder / "out.jsonl")
    with (folder / "out.jsonl").open() as stream:
        count = ordered = 0
        for count, line in enumerate(stream, start=1):
            ordered += json.loads(line)["input"].endswith(f"#{count}")
    return {"seconds": measured.seconds, "peak_mb": measured.peak_mb, "rows_out": count, "rows_in_order": ordered}
