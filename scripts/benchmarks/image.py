"""The export and one photo at a time, against eager PyTorch: the figures of the README."""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure, Results
from benchmarks.timing import median_ms, median_runs

MATERIAL = Path("build/demo")
CHECKPOINT, LABELS, PHOTOS = MATERIAL / "efficientnet-lite0.pth", MATERIAL / "imagenet.txt", MATERIAL / "photos"
PHOTO = PHOTOS / "chelsea.jpg"
TRUECOPY = str(Path(sys.executable).parent / "truecopy")


def export_command(artifact: Path, *options: str) -> list[str]:
    """Return the command that exports EfficientNet-Lite0 with its real weights."""
    return [
        *(TRUECOPY, "export", str(CHECKPOINT), "--arch", "efficientnet_lite_pytorch:EfficientNet.from_name"),
        *("--arch-arg", "model_name=efficientnet-lite0", "--labels", str(LABELS), "--samples", str(PHOTOS)),
        *("--preprocess", "examples/efficientnet_lite0.py:transform", "--out", str(artifact), *options),
    ]


def measure_parity(artifact: Path) -> list[Figure]:
    done = subprocess.run(export_command(artifact, "--json"), check=True, capture_output=True, text=True)
    summary = json.loads(done.stdout)
    rows = summary["parity"]["rows"]
    agreement = min(row["label_agreement"] for row in rows if row["label_agreement"] is not None)
    levels = max(int(row["difference"] or 0) for row in rows if row["stage"] == "geometry")
    scores = max(row["difference"] for row in rows if row["stage"] == "end to end")
    ratio = summary["manifest"]["parity"]["ratio"]
    sizes = {name: file["size_bytes"] for name, file in summary["manifest"]["files"].items()}
    payload = 2 * sizes["weights.bin"]
    extra = sum(sizes.values()) / payload - 1
    return [
        Figure(promise="labels equal to eager's", measured=f"{agreement:.0%}", target="100%", met=agreement == 1),
        Figure(promise="largest pixel difference, every path", measured=f"{levels}", target="1", met=levels <= 1),
        Figure(
            promise="scores, against eager",
            measured=f"{scores:.1e}, {ratio:.2g} times eager's own noise at the worst stage",
            target="1e-4",
            met=scores <= 1e-4,
        ),
        Figure(
            promise="size of the artifact beyond its weights, twice",
            measured=f"{extra:.1%}",
            target="3%",
            met=extra <= 0.03,
        ),
    ]


def measure_cold_start(artifact: Path, *, faster_floor: float = 6, memory_limit: float = 0.33) -> list[Figure]:
    eager, ours = median_runs(
        [
            [sys.executable, "-m", "benchmarks.eager_script", str(CHECKPOINT), str(LABELS), str(PHOTO)],
            [TRUECOPY, "predict", str(artifact), str(PHOTO)],
        ],
        rounds=5,
    )
    faster, memory = eager.seconds / ours.seconds, ours.peak_mb / eager.peak_mb
    return [
        Figure(
            promise="one JPEG, process start to label",
            measured=f"{faster:.1f} times faster ({ours.seconds:.2f} s, eager {eager.seconds:.2f} s)",
            target=f"{faster_floor:g} times",
            met=faster >= faster_floor,
        ),
        Figure(
            promise="its peak memory",
            measured=f"{memory:.2f} of eager's ({ours.peak_mb:.0f} MB, eager {eager.peak_mb:.0f} MB)",
            target=f"{memory_limit:g}",
            met=memory <= memory_limit,
        ),
    ]


def measure_warm(artifact: Path) -> list[Figure]:
    import torch
    from efficientnet_lite0 import transform
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image

    import runtime

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    network.eval()
    model = runtime.load(artifact, device="cpu", threads=torch.get_num_threads())

    def eager() -> None:
        with torch.inference_mode():
            network(transform(Image.open(PHOTO).convert("RGB"))[None]).softmax(dim=1).argmax()

    eager_ms, ours_ms = median_ms([eager, lambda: model.predict(PHOTO)], rounds=60)
    return [
        Figure(
            promise=f"one JPEG at a time, warm, {torch.get_num_threads()} threads each",
            measured=f"{eager_ms / ours_ms:.1f} times faster ({ours_ms:.1f} ms, eager {eager_ms:.1f} ms)",
            target="2 times",
            met=eager_ms / ours_ms >= 2,
        )
    ]


def measure_preprocessing(artifact: Path) -> list[Figure]:
    import numpy as np
    from efficientnet_lite0 import transform
    from PIL import Image

    import runtime

    model = runtime.load(artifact, device="cpu", threads=1)
    data = [path.read_bytes() for path in sorted(PHOTOS.iterdir())]
    images = [Image.open(io.BytesIO(photo)).convert("RGB") for photo in data]
    arrays = [np.asarray(image)[np.newaxis] for image in images]
    pixels = [model.prepare(image)[np.newaxis] for image in images]
    theirs_ms, ours_ms, transform_ms, whole_ms, network_ms = median_ms(
        [
            lambda: [transform(Image.open(io.BytesIO(photo)).convert("RGB")) for photo in data],
            lambda: [model.prepare(photo) for photo in data],
            lambda: [transform(image) for image in images],
            lambda: [model.run({"image": array}) for array in arrays],
            lambda: [model.run({"pixels": array}) for array in pixels],
        ],
        rounds=25,
    )
    faster, slower = theirs_ms / ours_ms, (whole_ms - network_ms) / transform_ms
    return [
        Figure(
            promise="decode and prepare on the host, against torchvision",
            measured=f"{faster:.1f} times faster ({ours_ms / len(data):.1f} ms per photo)",
            target="1.5 times",
            met=faster >= 1.5,
        ),
        Figure(
            promise="preparing in model.onnx, one thread, against torchvision",
            measured=f"{slower:.2f} times ({(whole_ms - network_ms) / len(data):.1f} ms)",
            target="1.3 times",
            met=slower <= 1.3,
        ),
    ]


def measure_start() -> list[Figure]:
    helped, imported = median_runs(
        [[TRUECOPY, "--help"], [sys.executable, "-c", "import runtime; runtime.load"]], rounds=9
    )
    return [
        Figure(promise="truecopy --help", measured=f"{helped.seconds:.2f} s", target="0.4 s", met=helped.seconds < 0.4),
        Figure(
            promise="import runtime, and all that load() needs",
            measured=f"{imported.seconds:.2f} s",
            target="0.35 s",
            met=imported.seconds < 0.35,
        ),
    ]


def measure_export(folder: Path) -> list[Figure]:
    import torch
    import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), folder / "resnet18.pth")
    command = [
        *(TRUECOPY, "export", str(folder / "resnet18.pth"), "--arch", "resnet18"),
        *("--out", str(folder / "resnet18"), "--force"),
    ]
    bare, ours = median_runs(
        [[sys.executable, "-m", "benchmarks.bare_export", str(folder / "resnet18.pth"), str(folder)], command], rounds=2
    )
    ratio = ours.seconds / bare.seconds
    shares = [share_of_gate([*command, "--json"]) for _ in range(3)]
    gate = statistics.median(shares)
    return [
        Figure(
            promise="exporting resnet18, checked, against a bare trace and export",
            measured=f"{ratio:.2f} times ({ours.seconds:.1f} s, bare {bare.seconds:.1f} s)",
            target="2.5 times",
            met=ratio <= 2.5,
        ),
        Figure(
            promise="what the default gate adds to the export of resnet18",
            measured=f"{gate:.0%} of the time without it",
            target="60%",
            met=gate <= 0.6,
        ),
    ]


def share_of_gate(command: Sequence[str]) -> float:
    """Return the time that the reference and the comparison add to one export, as a share of the rest."""
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    whole = time.perf_counter() - start
    gate = sum(step["seconds"] for step in json.loads(done.stdout)["steps"] if step["name"] in ("reference", "parity"))
    return float(gate / (whole - gate))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add nothing: this benchmark has no options."""
    del parser


def measure(options: argparse.Namespace) -> Results:
    """Return the figures of an export and of single photos."""
    del options
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        artifact = folder / "efficientnet-lite0"
        return Results(
            figures=[
                *measure_parity(artifact),
                *measure_start(),
                *measure_cold_start(artifact),
                *measure_export(folder),
                *measure_warm(artifact),
                *measure_preprocessing(artifact),
            ]
        )
