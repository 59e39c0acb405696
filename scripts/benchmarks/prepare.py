"""JPEG bytes to prepared pixels, against Pillow, torchvision on PIL and another checkout; threads; memory.

Contestants are processes of their own that take turns, so that what else the machine does meets all of them; each ratio
is the median over the turns. Times are processor time on one thread; rates with threads are by the clock.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

SIZES = ((500, 375), (640, 480), (1600, 1200), (4000, 3000))
SHORT_SIDE, CROP = 256, 224
GIANT = (8000, 6000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant (%(default)s)")
    parser.add_argument("--checkout", type=Path, help="folder of another version of this project, to compare with")
    parser.add_argument("--part", choices=("single", "threads", "giant"), help="only this part")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    contestants = ["fast", "pillow", "torchvision"] + (["checkout"] if options.checkout else [])
    parts: dict[str, Callable[[], Any]] = {
        "single": lambda: single(contestants, options),
        "threads": lambda: threads(options),
        "giant": lambda: {name: giant(name, options) for name in ("fast", "pillow")},
    }
    results = {name: part() for name, part in parts.items() if options.part in {None, name}}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def single(contestants: list[str], options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    workers = {name: Worker(name, options) for name in contestants}
    for width, height in SIZES:
        photos = max(2, 6_000_000 // (width * height))
        checks = {name: worker.ask(width=width, height=height, photos=1)["check"] for name, worker in workers.items()}
        turns: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(options.rounds):
            for name, worker in workers.items():
                turns[name].append(worker.ask(width=width, height=height, photos=photos)["processor_s"] / photos)
        row: dict[str, Any] = {name: round(statistics.median(times) * 1e3, 3) for name, times in turns.items()}
        for name in contestants[1:]:
            ratios = [theirs / ours for theirs, ours in zip(turns[name], turns["fast"], strict=True)]
            row[f"{name} / fast"] = round(statistics.median(ratios), 2)
        row["pixels"] = "equal" if len(set(checks.values())) == 1 else f"differ: {checks}"
        results[f"{width} x {height}"] = row
        print(f"{width} x {height}, ms per photo: {row}", flush=True)
    for worker in workers.values():
        worker.close()
    return results


def threads(options: argparse.Namespace) -> dict[str, Any]:
    """Measure photos per second on one thread, on two, and in two processes, which share nothing.

    On a busy machine two threads have no two cores: then what two processes get at that moment is the measure.
    """
    width, height = SIZES[1]
    photos = 60
    results = {}
    for name in ("fast", "pillow"):
        worker, other = Worker(name, options), Worker(name, options)
        rates: dict[str, list[float]] = {"one thread": [], "two threads": [], "two processes": []}
        for _ in range(options.rounds):
            for way, asked in (("one thread", [worker]), ("two threads", [worker]), ("two processes", [worker, other])):
                count = 2 if way == "two threads" else 1
                start = time.perf_counter()
                for each in asked:
                    each.send(width=width, height=height, photos=photos * count, threads=count)
                for each in asked:
                    each.receive()
                rates[way].append(photos * count * len(asked) / (time.perf_counter() - start))
        row: dict[str, Any] = {
            f"photos per second, {way}": round(statistics.median(rate)) for way, rate in rates.items()
        }
        for way in ("one thread", "two processes"):
            ratios = [two / rate for two, rate in zip(rates["two threads"], rates[way], strict=True)]
            row[f"two threads / {way}"] = round(statistics.median(ratios), 2)
        results[name] = row
        print(f"{width} x {height}, {name}: {row}", flush=True)
        worker.close()
        other.close()
    return results


def giant(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the memory that one photo of 48 megapixels takes at most, as a multiple of its decoded size."""
    worker = Worker(name, options)
    peak = worker.ask(width=GIANT[0], height=GIANT[1], photos=1, memory=True)["peak_bytes"]
    worker.close()
    row = {"peak MB": round(peak / 1e6), "times decoded": round(peak / (GIANT[0] * GIANT[1] * 3), 3)}
    print(f"{GIANT[0]} x {GIANT[1]}, {name}: {row}", flush=True)
    return row


class Worker:
    """A contestant in a process of its own."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        environment = dict(os.environ)
        if name == "checkout":
            environment["PYTHONPATH"] = str(options.checkout.absolute())
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        self.send(**request)
        return self.receive()

    def send(self, **request: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def work(name: str) -> None:
    prepare = preparer(name)
    photos: dict[tuple[int, int], bytes] = {}
    for line in sys.stdin:
        request = json.loads(line)
        size = (request["width"], request["height"])
        if size not in photos:
            photos[size] = make_photo(*size)
            prepare(make_photo(64, 48))
        data = photos[size]
        result: dict[str, Any] = {}
        if request.get("memory"):
            result["peak_bytes"] = peak_bytes(lambda data=data: prepare(data))
        start, clock = time.process_time(), time.perf_counter()
        if request.get("threads", 1) > 1:
            run_threads(lambda data=data: prepare(data), request["photos"], request["threads"])
        else:
            for _ in range(request["photos"]):
                prepared = prepare(data)
            result["check"] = int(prepared.astype("int64").sum())
        result |= {"processor_s": time.process_time() - start, "clock_s": time.perf_counter() - clock}
        print(json.dumps(result), flush=True)


def preparer(name: str) -> Callable[[bytes], Any]:
    import numpy as np

    if name == "torchvision":
        import torch
        from PIL import Image
        from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

        torch.set_num_threads(1)
        transform = Compose([Resize(SHORT_SIDE, InterpolationMode.BICUBIC), CenterCrop(CROP)])
        return lambda data: np.asarray(transform(Image.open(io.BytesIO(data)).convert("RGB")))
    from runtime import manifest

    try:
        from runtime.inputs.image.decoder import ImageDecoder
    except ModuleNotFoundError:  # where it was before
        from runtime.decode.images import ImageDecoder  # type: ignore[import-not-found,no-redef]
    steps = (
        manifest.Resize(size=SHORT_SIDE, interpolation="bicubic", axis_order="larger_cut_first"),
        manifest.CenterCrop(height=CROP, width=CROP),
    )
    preprocessing = manifest.Preprocessing(geometry=steps, arithmetic=(), height=CROP, width=CROP, channels=3)
    spec = manifest.ImageInput(name="image", mode="RGB", exif=False, preprocessing=preprocessing)
    decoder = ImageDecoder(spec, None, **({"fast": False} if name == "pillow" else {}))  # type: ignore[arg-type]
    return lambda data: decoder.prepare(decoder.decode(data, subject="photo"))


def make_photo(width: int, height: int) -> bytes:
    import skimage.data
    from PIL import Image

    stream = io.BytesIO()
    photo = Image.fromarray(skimage.data.coffee()).resize((width, height), Image.Resampling.BICUBIC)
    photo.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def run_threads(call: Callable[[], Any], photos: int, count: int) -> None:
    started = [threading.Thread(target=lambda: [call() for _ in range(photos // count)] and None) for _ in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def peak_bytes(call: Callable[[], Any]) -> int:
    """Return by how much the process grew at most during a call (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = memory_bytes("VmRSS")
    call()
    return memory_bytes("VmHWM") - before


def memory_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


if __name__ == "__main__":
    main()
