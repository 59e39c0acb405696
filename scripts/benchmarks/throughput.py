"""Speed and memory of the runtime: whole folders, calls, cold start, memory, threads."""

import argparse
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks.figures import Figure, Results
from benchmarks.handwritten_loop import Loop
from benchmarks.image import CHECKPOINT, LABELS, MATERIAL, TRUECOPY, export_command, measure_cold_start
from benchmarks.timing import alternate, run, seconds_of
from material.jpegs import write_jpegs
from runtime.artifact.open import open_artifact
from runtime.engine.cpu import usable_cores

JPEGS = MATERIAL / "jpegs"
ARTIFACT = MATERIAL / "efficientnet-lite0"
TINY = Path("tests/data/tiny")
EAGER_BATCH = 16
TRIAL = 48
_TURN = 8


class Eager:
    """torchvision's transform in DataLoader's processes, then eager PyTorch."""

    def __init__(self, paths: Sequence[Path], workers: int) -> None:
        import torch
        from efficientnet_lite0 import transform
        from efficientnet_lite_pytorch import EfficientNet
        from PIL import Image

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
    """Return the median rate of each contender, in inputs per second, over rounds in which they take turns."""
    timed = [lambda label_all=label_all: seconds_of(label_all) for label_all in contenders.values()]
    return {
        name: statistics.median(count / seconds for seconds in times)
        for name, times in zip(contenders, alternate(timed, rounds), strict=True)
    }


def measure_folder(paths: list[Path], rounds: int) -> list[Figure]:
    model = runtime.load(ARTIFACT, device="cpu", plan="throughput")
    loop, exact_loop = Loop(ARTIFACT), Loop(ARTIFACT, exact=True)
    # Its best number of workers, determined on a part of the photos.
    part = paths[:TRIAL]
    trials = {workers: Eager(part, workers) for workers in (0, 1, usable_cores())}
    trial_rates = rates({str(workers): eager.label_all for workers, eager in trials.items()}, len(part), 2)
    eager = Eager(paths, int(max(trial_rates, key=trial_rates.__getitem__)))
    ours = [result.label for result in model.predict(list(paths))]
    for name, labels in {"loop": loop.label_all(paths), "eager": eager.label_all()}.items():
        agreement = np.mean([ours_label == label for ours_label, label in zip(ours, labels, strict=True)])
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
            target="5.8 times",
            met=rate["ours"] >= 5.8 * rate["eager"],
        ),
        Figure(
            promise="folder to labels, against the best loop by hand",
            measured=f"{rate['ours'] / rate['loop']:.2f} times ({rate['loop']:.1f}/s)",
            target="1.15 times",
            met=rate["ours"] >= 1.15 * rate["loop"],
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

    The first two of each turn are not counted: threads of the previous session may still spin.
    """

    def turn(function: Callable[[], object]) -> list[float]:
        return [seconds_of(function) * 1000 for _ in range(_TURN + 2)][2:]

    turns = alternate([lambda function=function: turn(function) for function in functions], rounds // _TURN, warm_up=2)
    return [[ms for times in of_function for ms in times] for of_function in turns]


def measure_run() -> list[Figure]:
    import onnxruntime

    medians = []
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
        medians.append((statistics.median(theirs), statistics.median(ours)))
    (theirs_ms, ours_ms), (tiny_theirs_ms, tiny_ours_ms) = medians
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
            measured=f"{more_us:.0f} microseconds per call",
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
    """Return requests of every kind, whose results can be compared."""

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
        mixed = requests(model, paths)
        expected = [request() for request in mixed]

        def all_of_them(offset: int) -> int:
            order = [(offset * 7 + number) % len(mixed) for number in range(len(mixed))]
            return sum(mixed[number]() != expected[number] for number in order)

        with ThreadPoolExecutor(threads) as pool:
            wrong = sum(pool.map(all_of_them, range(threads)))
    return [
        Figure(
            promise=f"{threads} threads x {len(mixed)} mixed requests",
            measured=f"{wrong} results differ from the single-threaded ones",
            target="0",
            met=wrong == 0,
        )
    ]


PARTS = ("folder", "run", "start", "memory", "threads")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; by default all", default=PARTS
    )
    parser.add_argument("--images", type=int, default=20_000, help="images of the run that bounds the memory")
    parser.add_argument("--photos", type=int, default=200, help="JPEGs of the folder, at most 200")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which each contender labels the folder")


def measure(options: argparse.Namespace) -> Results:
    """Return the figures of the chosen parts."""
    if unknown := set(options.parts) - set(PARTS):
        raise SystemExit(f"unknown parts: {', '.join(unknown)}. Choose from {', '.join(PARTS)}.")
    paths = write_jpegs(JPEGS)
    try:
        open_artifact(ARTIFACT)
    except runtime.ArtifactError:  # missing, or of an earlier format
        subprocess.run(export_command(ARTIFACT, "--force"), check=True, capture_output=True)
    steps: dict[str, Callable[[], list[Figure]]] = {
        "folder": lambda: measure_folder(paths[: options.photos], options.rounds),
        "run": measure_run,
        "start": lambda: measure_cold_start(ARTIFACT, faster_floor=8, memory_limit=0.25),
        "memory": lambda: measure_memory(paths, options.images, ARTIFACT),
        "threads": lambda: measure_thread_safety(TINY, paths[:20], 32),
    }
    figures = [figure for part in options.parts for figure in steps[part]()]
    own_s = sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Results(figures=figures, details={"cpu_s": own_s}, tables=[f"{own_s:.0f} CPU seconds of this benchmark"])
