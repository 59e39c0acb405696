"""Measure how fast and how lean the runtime is: ratios of medians, over rounds that alternate within this run."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from bench import (
    CHECKPOINT,
    LABELS,
    MATERIAL,
    PHOTOS,
    TRUECOPY,
    Figure,
    measure_cold_start,
    print_figures,
    run,
)
from bench_loop import Loop
from bench_material import write_jpegs

import runtime
from runtime.artifact.open import open_artifact
from runtime.engine.cpu import usable_cores

JPEGS = MATERIAL / "jpegs"
ARTIFACT = MATERIAL / "efficientnet-lite0"
TINY = Path("tests/data/tiny")
EAGER_BATCH = 16
TRIAL = 48
_TURN = 8


def export(artifact: Path) -> None:
    command = [
        *(TRUECOPY, "export", str(CHECKPOINT), "--arch", "efficientnet_lite_pytorch:EfficientNet.from_name"),
        *("--arch-arg", "model_name=efficientnet-lite0", "--labels", str(LABELS), "--samples", str(PHOTOS)),
        *("--preprocess", "scripts/examples/efficientnet_lite0.py:transform", "--out", str(artifact), "--force"),
    ]
    subprocess.run(command, check=True, capture_output=True)


class Eager:
    """torchvision's transform in DataLoader's processes, then eager PyTorch."""

    def __init__(self, paths: Sequence[Path], workers: int) -> None:
        import torch
        from efficientnet_lite_pytorch import EfficientNet
        from PIL import Image

        sys.path.insert(0, "scripts/examples")
        from efficientnet_lite0 import transform

        class Photos(torch.utils.data.Dataset[Any]):
            def __len__(self) -> int:
                return len(paths)

            def __getitem__(self, index: int) -> Any:
                return transform(Image.open(paths[index]).convert("RGB"))

        self.workers = workers
        self.torch = torch
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
        self.network.eval()
        self.loader = torch.utils.data.DataLoader(Photos(), batch_size=EAGER_BATCH, num_workers=workers)
        self.labels = LABELS.read_text().splitlines()

    def label_all(self) -> list[str]:
        with self.torch.inference_mode():
            return [
                self.labels[int(best)] for batch in self.loader for best in self.network(batch).softmax(dim=1).argmax(1)
            ]


def rates(contenders: dict[str, Callable[[], Sequence[str]]], count: int, rounds: int) -> dict[str, float]:
    """Return the median of each contender's inputs a second over rounds in which they take turns."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, label_all in contenders.items():
            start = time.perf_counter()
            label_all()
            if number:
                found[name].append(count / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in found.items()}


def measure_folder(paths: list[Path], rounds: int) -> list[Figure]:
    model = runtime.load(ARTIFACT, device="cpu", plan="throughput")
    loop, exact_loop = Loop(ARTIFACT), Loop(ARTIFACT, exact=True)
    # Its best number of workers, found on a part of the photos.
    part = paths[:TRIAL]
    trials = {workers: Eager(part, workers) for workers in (0, 1, usable_cores())}
    found = rates({str(workers): one.label_all for workers, one in trials.items()}, len(part), 2)
    eager = Eager(paths, int(max(found, key=found.__getitem__)))
    ours = [result.label for result in model.predict(list(paths))]
    for name, labels in {"loop": loop.label_all(paths), "eager": eager.label_all()}.items():
        agreement = np.mean([one == other for one, other in zip(ours, labels, strict=True)])
        if agreement < 0.99:
            raise SystemExit(f"the {name}'s labels are not ours: {agreement:.1%} agree")
    rate = rates(
        {
            "ours": lambda: [result.label for result in model.predict(list(paths))],
            "loop": lambda: loop.label_all(paths),
            "exact": lambda: exact_loop.label_all(paths),
            "eager": eager.label_all,
        },
        len(paths),
        rounds,
    )
    model.close()
    return [
        Figure(
            promise="folder to labels, against DataLoader + eager",
            measured=f"{rate['ours'] / rate['eager']:.1f} times ({rate['ours']:.1f}/s; eager {rate['eager']:.1f}/s, "
            f"{eager.workers} workers)",
            target="4.5 times",
            met=rate["ours"] >= 4.5 * rate["eager"],
        ),
        Figure(
            promise="folder to labels, against the best loop by hand",
            measured=f"{rate['ours'] / rate['loop']:.2f} times ({rate['loop']:.1f}/s)",
            target="0.97 times",
            met=rate["ours"] >= 0.97 * rate["loop"],
        ),
        Figure(
            promise="the same, where that loop's pixels are training's",
            measured=f"{rate['ours'] / rate['exact']:.2f} times ({rate['exact']:.1f}/s)",
            target="0.97 times",
            met=rate["ours"] >= 0.97 * rate["exact"],
        ),
    ]


def call_times_ms(functions: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Return the times of calls, a few of one function after a few of the other.

    The first of each turn is not counted: threads of the session before it may still spin.
    """
    times: list[list[float]] = [[] for _ in functions]
    for number in range(rounds // _TURN + 2):
        for function, found in zip(functions, times, strict=True):
            for call in range(_TURN + 2):
                start = time.perf_counter()
                function()
                if number >= 2 and call >= 2:
                    found.append((time.perf_counter() - start) * 1000)
    return times


def measure_run() -> list[Figure]:
    import onnxruntime

    found = []
    for artifact, side, rounds in ((ARTIFACT, 224, 150), (TINY, 32, 4000)):
        model = runtime.load(artifact, device="cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        bare = onnxruntime.InferenceSession(artifact / "network.onnx", options, providers=["CPUExecutionProvider"])
        arrays = {"pixels": np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)}
        theirs, ours = call_times_ms(
            [
                lambda bare=bare, arrays=arrays: bare.run(None, arrays),
                lambda model=model, arrays=arrays: model.run(arrays),
            ],
            rounds,
        )
        found.append((statistics.median(theirs), statistics.median(ours)))
    (theirs_ms, ours_ms), (tiny_theirs_ms, tiny_ours_ms) = found
    more_us = (tiny_ours_ms - tiny_theirs_ms) * 1000
    return [
        Figure(
            promise="Model.run against session.run, EfficientNet-Lite0",
            measured=f"{theirs_ms / ours_ms:.2f} times ({ours_ms:.1f} ms, bare {theirs_ms:.1f} ms)",
            target="0.98 times",
            met=theirs_ms / ours_ms >= 0.98,
        ),
        Figure(
            promise="Model.run, more than session.run",
            measured=f"{more_us:.0f} microseconds a call",
            target="40",
            met=more_us <= 40,
        ),
    ]


def measure_memory(paths: list[Path], count: int, artifact: Path) -> list[Figure]:
    """Label ``count`` links to the JPEGs and the JPEGs alone, each in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        many = folder / "many"
        many.mkdir()
        for number in range(count):
            (many / f"{number:06}.jpg").symlink_to(paths[number % len(paths)].resolve())
        few_run, many_run = (
            run([TRUECOPY, "predict", str(artifact), str(source), "--out", str(folder / f"{source.name}.jsonl")])
            for source in (paths[0].parent, many)
        )
        with (folder / "many.jsonl").open() as stream:
            rows = sum(1 for _ in stream)
    if rows != count:
        raise SystemExit(f"expected {count} rows, got {rows}")
    ratio = many_run.peak_mb / few_run.peak_mb
    return [
        Figure(
            promise=f"peak memory for {count} images, against {len(paths)}",
            measured=f"{ratio:.2f} times ({many_run.peak_mb:.0f} MB, {few_run.peak_mb:.0f} MB; "
            f"{count / many_run.seconds:.0f}/s)",
            target="1.15 times",
            met=ratio <= 1.15,
        )
    ]


def requests(model: runtime.Model, paths: Sequence[Path]) -> list[Callable[[], object]]:
    """Return requests of every kind, whose answers can be compared."""

    def of(number: int, path: Path) -> Callable[[], object]:
        def single() -> object:
            return model.predict(path).to_dict()

        def encoded() -> object:
            return model.predict(path.read_bytes(), top_k=3).to_dict()

        def several() -> object:
            results = model.predict([path, b"garbage", paths[(number + 1) % len(paths)]])
            return [result.to_dict() for result in results]

        def arrays() -> object:
            pixels = np.stack([model.prepare(path)] * (1 + number % 3))
            return model.run({"pixels": pixels})["probabilities"].tobytes()

        def bad() -> object:
            try:
                model.predict(f"missing-{number}.jpg")
            except runtime.InputError as error:
                return str(error)
            return "no error"

        return (single, encoded, several, arrays, bad)[number % 5]

    return [of(number, paths[number % len(paths)]) for number in range(200)]


def measure_thread_safety(artifact: Path, paths: Sequence[Path], threads: int) -> list[Figure]:
    wrong = 0
    with runtime.load(artifact, device="cpu", plan="throughput") as model:
        asked = requests(model, paths)
        expected = [request() for request in asked]

        def all_of_them(offset: int) -> int:
            order = [(offset * 7 + number) % len(asked) for number in range(len(asked))]
            return sum(asked[number]() != expected[number] for number in order)

        with ThreadPoolExecutor(threads) as pool:
            wrong = sum(pool.map(all_of_them, range(threads)))
    return [
        Figure(
            promise=f"{threads} threads x {len(asked)} mixed requests",
            measured=f"{wrong} answers differ from the single-threaded ones",
            target="0",
            met=wrong == 0,
        )
    ]


PARTS = ("folder", "run", "start", "memory", "threads")


def measure(parts: Sequence[str], images: int, rounds: int, photos: int) -> Iterator[Figure]:
    paths = write_jpegs(JPEGS)
    try:
        open_artifact(ARTIFACT)
    except runtime.ArtifactError:  # none there, or of an earlier format
        export(ARTIFACT)
    steps: dict[str, Callable[[], list[Figure]]] = {
        "folder": lambda: measure_folder(paths[:photos], rounds),
        "run": measure_run,
        "start": lambda: measure_cold_start(ARTIFACT, faster_floor=8, memory_limit=0.25),
        "memory": lambda: measure_memory(paths, images, ARTIFACT),
        "threads": lambda: measure_thread_safety(TINY, paths[:20], 32),
    }
    for part in parts:
        yield from steps[part]()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; by default all")
    parser.add_argument("--images", type=int, default=20_000, help="how many for the run that bounds the memory")
    parser.add_argument("--photos", type=int, default=200, help="how many of the JPEGs make the folder, at most 200")
    parser.add_argument("--rounds", type=int, default=5, help="how often the folder is labelled by each contender")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(unknown)}")
    before = os.getloadavg()[0]
    figures = list(measure(options.parts or PARTS, options.images, options.rounds, options.photos))
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
        return
    print_figures(figures)
    own_s = sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"load average before: {before:.1f} on {usable_cores()} cores; {own_s:.0f} CPU seconds of our own")


if __name__ == "__main__":
    main()
