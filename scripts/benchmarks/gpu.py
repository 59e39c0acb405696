"""The whole picture on a GPU in ten minutes: its tests, one photo, predict, serve, and the parity of 24 architectures.

It prints a table and writes JSON. Rates are of photos of 0.3 megapixels and ResNet-50 in float32, whose weights are
random. Without a GPU it ends with the reason; --device cpu runs the same script on the CPU, --small with a tiny network
and a few photos.
"""

import argparse
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.figures import Figure, Results
from benchmarks.load_generator import Request, run, run_closed
from benchmarks.timing import seconds_of
from capacity.server_cost import NAME, serving
from material.paths import ROOT
from material.shipped import shipped_photos
from runtime.engine.cpu import usable_cores
from runtime.errors import DeviceError
from runtime.model import Model, load

TINY = ROOT / "tests" / "data" / "tiny"
NETWORK = "resnet50"
ARCHITECTURES = (
    *("resnet50", "efficientnet_b0", "googlenet", "densenet121", "convnext_tiny", "regnet_y_400mf"),
    *("mobilenet_v3_large", "squeezenet1_1", "vit_b_16", "inception_v3", "maxvit_t", "mnasnet1_0", "vgg11", "alexnet"),
    *("shufflenet_v2_x1_0", "swin_v2_t", "timm:levit_128s", "timm:efficientvit_b0", "timm:mixer_s32_224"),
    *("timm:mobilevit_s", "timm:eva02_tiny_patch14_224", "timm:coatnet_nano_rw_224", "timm:poolformer_s12"),
    "timm:xcit_nano_12_p16_224",
)
CLIENTS = (1, 16, 64)
_TESTS_S = 150
_SIZE = (640, 480)


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What the parts measure, and when they have to be done, on ``time.monotonic``'s clock."""

    device: str
    artifact: Path
    photos: Sequence[bytes]
    total: int
    seconds: float
    architectures: Sequence[str]
    until: float

    def remaining_s(self) -> float:
        return max(0.0, self.until - time.monotonic())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--device", default="cuda", help="where the network runs (%(default)s)")
    parser.add_argument("--small", action="store_true", help="a tiny network, a few photos, one architecture")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated (%(default)s)")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything; what is left is named")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu.json", help="file for the JSON (%(default)s)")


def measure(options: argparse.Namespace) -> Results:
    """Return the figures of all parts, and write them to ``options.out``."""
    until = time.monotonic() + 60 * options.minutes
    names = options.only.split(",")
    if unknown := set(names) - set(PARTS):
        raise SystemExit(f"--only {', '.join(sorted(unknown))}: unknown. Pass some of {', '.join(PARTS)}.")
    try:
        load(TINY, device=options.device).close()
    except DeviceError as error:
        raise SystemExit(f"scripts/bench gpu: nothing was measured: {error}") from None
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        setting = _Setting(
            device=options.device,
            artifact=TINY if options.small else _export(NETWORK, Path(scratch)),
            photos=make_photos(8),
            total=32 if options.small else 2000,
            seconds=0.5 if options.small else 5.0,
            architectures=ARCHITECTURES[-1:] if options.small else ARCHITECTURES,
            until=until,
        )
        figures: list[Figure] = []
        for name in names:
            print(f"{name}: {setting.remaining_s():.0f} s are left", file=sys.stderr)
            figures += PARTS[name](setting)
            results = Results(figures=figures, details={"device": _describe(options.device), "small": options.small})
            # After each part: a machine that is lent may be taken away.
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(results.to_json(), indent=1) + "\n")
    return results


def make_photos(count: int) -> list[bytes]:
    """Return JPEGs of 640 x 480 pixels, each another part of a photo."""
    photos = list(shipped_photos().values())
    made = []
    for number in range(count):
        photo = photos[number % len(photos)]
        left = number * photo.width // (4 * count)
        stream = io.BytesIO()
        photo.crop((left, 0, photo.width, photo.height)).resize(_SIZE, Image.Resampling.BICUBIC).save(
            stream, "JPEG", quality=90
        )
        made.append(stream.getvalue())
    return made


def measure_tests(setting: _Setting) -> list[Figure]:
    """Run the tests that are marked gpu."""
    marked = re.compile(r"\bmark\.gpu\b")
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if marked.search(path.read_text())]
    at_once = str(max(1, min(4, usable_cores() // 2)))
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-n", at_once, "-m", "gpu", *files]
    limit_s = min(_TESTS_S, setting.remaining_s())
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
        summary = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()[-1]
        passed = done.returncode == 0 and " passed" in summary  # without a GPU all are skipped
    except subprocess.TimeoutExpired:
        summary, passed = f"not done after {limit_s:.0f} s", False
    return [Figure(promise="tests marked gpu", measured=summary, target="all pass", met=passed)]


def measure_one(setting: _Setting) -> list[Figure]:
    """Return the time from one JPEG to its label."""
    with load(setting.artifact, device=setting.device) as model:
        for photo in setting.photos:
            model.predict(photo)
        end = time.monotonic() + setting.seconds
        times = []
        while time.monotonic() < end:
            times.append(seconds_of(lambda: model.predict(setting.photos[len(times) % len(setting.photos)])) * 1000)
    p50 = statistics.median(times)
    return [Figure(promise="one JPEG to its label, p50", measured=f"{p50:.2f} ms", target="4 ms", met=p50 <= 4)]


def measure_predict(setting: _Setting) -> list[Figure]:
    """Return the rates of a job by its number of workers, and whether its labels are the CPU's."""
    sources = [(f"#{number}", setting.photos[number % len(setting.photos)]) for number in range(setting.total)]
    cores = usable_cores()
    with load(setting.artifact, device="cpu", plan="throughput") as reference:
        expected = [result.to_dict()["label"] for result in reference.predict(list(setting.photos))]
    figures = []
    for workers in sorted({max(1, cores // 2), cores, None}, key=lambda number: number or 0):
        with load(setting.artifact, device=setting.device, plan="throughput", workers=workers) as model:
            turns = [_label_all(model, sources) for _ in range(3)]
            per_s, used = len(sources) / min(seconds for seconds, _ in turns), model.plan.workers
        labels = [label for _, labels in turns for label in labels]
        wrong = sum(label != expected[number % len(expected)] for number, label in enumerate(labels))
        named = f"{workers} workers" if workers else f"as planned, {used} workers"
        figures.append(
            Figure(
                promise=f"predict of {len(sources)} photos, {named}",
                measured=f"{per_s:.0f}/s; {wrong} labels are not the CPU's",
                target="2700/s, none",
                met=per_s >= 2700 and not wrong,
            )
        )
    return figures


def _label_all(model: Model, sources: Sequence[tuple[str, bytes]]) -> tuple[float, list[str]]:
    """Return the seconds that a job takes, and the labels."""
    start = time.perf_counter()
    rows = list(model.predict_each(iter(sources)))
    return time.perf_counter() - start, [row.to_dict()["label"] for row in rows]


def measure_serve(setting: _Setting) -> list[Figure]:
    """Return the server's rates and latencies in closed loops."""
    requests = [Request(path=f"/predict/{NAME}", body=photo) for photo in setting.photos]
    figures = []
    cores = sorted(os.sched_getaffinity(0))
    with serving(setting.artifact, device=setting.device, cores=cores) as server:
        run(run_closed(server.url, requests, clients=8, seconds=min(1.0, setting.seconds)))
        for clients in CLIENTS:
            report = run(run_closed(server.url, requests, clients=clients, seconds=setting.seconds))
            p99, most = report.quantile_ms(0.99), clients == CLIENTS[-1]
            others = {status: count for status, count in report.statuses.items() if status != 200}
            figures.append(
                Figure(
                    promise=f"serve, {clients} clients",
                    measured=f"{report.good_per_s:.0f}/s, p50 {report.quantile_ms(0.5):.1f} ms, p99 {p99:.1f} ms"
                    + (f", other statuses {others}" if others else ""),
                    target="2200/s, p99 60 ms" if most else "",
                    met=report.good_per_s >= 2200 and p99 <= 60 and not others if most else None,
                )
            )
    return figures


def measure_parity(setting: _Setting) -> list[Figure]:
    """Return how each architecture compares with eager PyTorch, in processes that share the cores."""
    at_once = max(1, usable_cores() // 2)

    def check(name: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.gpu", name, setting.device]
        environment = {**os.environ, "OMP_NUM_THREADS": "2"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=setting.remaining_s(), check=True
            )
        except subprocess.TimeoutExpired:
            return {"name": name, "problem": "not done in time"}
        except subprocess.CalledProcessError as error:
            return {"name": name, "problem": (error.stderr.strip() or "no message").splitlines()[-1][:200]}
        compared: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return compared

    with ThreadPoolExecutor(at_once) as pool:
        rows = list(pool.map(check, setting.architectures))
    failed = [f"{row['name']}: {row['problem']}" for row in rows if row["problem"]]
    ratios = sorted(row["ratio"] for row in rows if not row["problem"])
    spread = f"; ratios to the noise floor {ratios[0]:.2g} to {ratios[-1]:.2g}" if ratios else ""
    return [
        Figure(
            promise=f"parity of {len(rows)} architectures on {setting.device}",
            measured=f"{len(ratios)} equal{spread}{''.join(f'; {line}' for line in failed)}",
            target="all equal",
            met=not failed,
        )
    ]


PARTS: dict[str, Callable[[_Setting], list[Figure]]] = {
    "tests": measure_tests,
    "one": measure_one,
    "predict": measure_predict,
    "serve": measure_serve,
    "parity": measure_parity,
}


def check_architecture(name: str, device: str) -> dict[str, Any]:
    """Return the largest ratio to the noise floor of an architecture's rows on ``device``, or the problem."""
    from exporter.options.export import ExportOptions
    from exporter.recheck import recheck_artifact
    from sweeps.cases import build, transform_for

    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        folder = Path(scratch)
        artifact = _export(name, folder)
        options = ExportOptions(checkpoint=folder / "model.pth", arch=name, preprocess=transform_for(name, build(name)))
        evidence = recheck_artifact(artifact, options, pixels=False).evidence
    rows = [row for row in evidence.rows if row.device == device]
    problem = "" if evidence.passed else str(evidence.reason)
    if not rows:
        problem = "; ".join(evidence.not_proven) or f"no row of {device}"
    return {"name": name, "problem": problem, "ratio": max((row.ratio or 0.0 for row in rows), default=0.0)}


def _export(name: str, folder: Path) -> Path:
    """Export an architecture with weights that carry signal; return the artifact's folder."""
    from sweeps import cases

    verdict = cases.export(name, folder)
    if not verdict["passed"]:
        raise SystemExit(f"{name}: not exported: {verdict.get('error', verdict)}")
    return folder / "artifact"


def _describe(device: str) -> str:
    if device == "cpu":
        return f"cpu, {usable_cores()} cores"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        card = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        card = "a card that nvidia-smi does not name"
    return f"{device}: {card}, {usable_cores()} cores"


if __name__ == "__main__":
    print(json.dumps(check_architecture(*sys.argv[1:])))
