"""Programs that run ONNX, on both graphs of an artifact: the golden inputs against the eager model's outputs for them,
and noise of other sizes against the runtime, which parity has compared with the eager model.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.artifact.golden import read_golden
from runtime.artifact.open import open_artifact
from runtime.model import Model

ROOT = Path(__file__).parents[2]
ARTIFACT = ROOT / "tests" / "data" / "tiny"
PACKAGES = ROOT / "build" / "consumers"
PAGE = ROOT / "docs" / "guides" / "without-python.md"
BEGIN, END = "<!-- scripts/consumers -->", "<!-- end -->"
# Decoders may round them in different ways: the graph would not be at fault.
LOSSY = (b"\xff\xd8", b"RIFF")
# Height and width: smaller than the crop, odd, and those of a photo.
SIZES = ((50, 70), (31, 33), (100, 31), (427, 640))


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A program that runs ONNX. ``requirement`` is what pip installs for it alone, else it is in the environment."""

    title: str
    kind: str
    package: str
    requirement: str | None = None
    needs: str | None = None


CONSUMERS = (
    Consumer(title="ONNX Runtime, oldest allowed", kind="onnxruntime", package="onnxruntime", requirement="==1.24.1"),
    Consumer(title="ONNX Runtime, newest", kind="onnxruntime", package="onnxruntime", requirement=""),
    Consumer(title="ONNX Runtime for Node.js", kind="node", package="onnxruntime-node"),
    Consumer(title="ONNX Runtime for the web, WebAssembly", kind="node", package="onnxruntime-web"),
    Consumer(title="OpenVINO, CPU", kind="openvino", package="openvino", requirement=""),
    Consumer(title="the reference evaluator of onnx", kind="reference", package="onnx"),
    Consumer(title="OpenCV dnn", kind="opencv", package="opencv-python-headless"),
)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph of the artifact, its inputs and the eager model's outputs for them."""

    path: Path
    name: str
    inputs: Sequence[NDArray[np.uint8]]
    expected: Sequence[NDArray[np.float32]]


def read_graphs() -> tuple[Graph, Graph]:
    """Return ``model.onnx`` with golden photos as they are decoded, and ``network.onnx`` with the same, prepared."""
    artifact = open_artifact(ARTIFACT)
    model = Model(artifact, device="cpu")
    cases = [
        case
        for case in read_golden(artifact.file(artifact.manifest.golden.file)).cases
        if not case.source.startswith(LOSSY)
    ]
    random = np.random.default_rng(0)
    noise = [model.decode(random.integers(0, 256, (*size, 3), np.uint8), subject="noise") for size in SIZES]
    raw = [model.raw_arrays(entry) for entry in noise]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one of them asks for a rotation on purpose
        raw += [model.raw_arrays(model.decode(case.source, subject="golden input")) for case in cases]
    prepared = [model.stack([model.prepare(entry)]) for entry in noise]
    expected = [next(iter(model.run(arrays).values())) for arrays in prepared]
    expected += [next(iter(case.outputs.values())) for case in cases]
    graphs = []
    for name, arrays in (("model.onnx", raw), ("network.onnx", [*prepared, *(case.prepared for case in cases)])):
        ((field, _),) = arrays[0].items()
        graphs.append(
            Graph(path=ARTIFACT / name, name=field, inputs=[entry[field] for entry in arrays], expected=expected)
        )
    return graphs[0], graphs[1]


def measure(consumer: Consumer, graph: Graph, work: Path) -> str:
    """Return the largest difference from the eager model over two runs of all inputs, or why there is none."""
    arrays = [*graph.inputs, *graph.inputs]
    for index, array in enumerate(arrays):
        (work / f"{index}.bin").write_bytes(np.ascontiguousarray(array).tobytes())
    (work / "shapes.json").write_text(json.dumps([array.shape for array in arrays]))
    environment = dict(os.environ)
    if consumer.requirement is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(_folder(consumer)), environment.get("PYTHONPATH", "")])
    script = Path(__file__).with_name("consumer.cjs" if consumer.kind == "node" else "consumer.py")
    command = ["node", script, consumer.package] if consumer.kind == "node" else [sys.executable, script, consumer.kind]
    done = subprocess.run(
        [*map(str, command), str(graph.path), graph.name, str(work)],
        cwd=ROOT / "build" / "node" if consumer.kind == "node" else ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        return f"fails: {_reason(done.stderr)}"
    outputs = json.loads(done.stdout.strip().splitlines()[-1])
    expected = [*graph.expected, *graph.expected]
    worst = max(
        float(np.abs(np.float64(row) - values.ravel()).max())
        if len(row) == values.size and np.isfinite(row).all()
        else np.inf
        for row, values in zip(outputs, expected, strict=True)
    )
    limits = open_artifact(ARTIFACT).manifest.golden.output_limits
    return f"{'right' if worst <= min(limits.values()) else '**wrong**'}, {worst:.1e}"


def installed(consumer: Consumer) -> str | None:
    """Return the consumer's version after installing it where it has a folder of its own; None where it is absent."""
    if consumer.kind == "node":
        manifest = ROOT / "build" / "node" / "node_modules" / consumer.package / "package.json"
        return json.loads(manifest.read_text())["version"] if manifest.exists() and shutil.which("node") else None
    if consumer.requirement is None:
        return version(consumer.package)
    folder = _folder(consumer)
    if not folder.is_dir():
        requirement = f"{consumer.package}{consumer.requirement}"
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), requirement]
        subprocess.run(install, check=True)
    (metadata,) = folder.glob(f"{consumer.package}-*.dist-info")
    return metadata.name.removesuffix(".dist-info").rpartition("-")[2]


def _folder(consumer: Consumer) -> Path:
    return PACKAGES / f"{consumer.package}{consumer.requirement or ''}"


def _reason(stderr: str) -> str:
    """Return the part of a program's last message that says why, without paths."""
    errors = re.findall(r"^\S*[Ee]rror.*", stderr, flags=re.MULTILINE) or ["no message"]
    return re.sub(r"\S*/", "", errors[-1]).replace("|", "/").strip()[:110]


def write(table: str) -> None:
    """Put the table between its marks on the page."""
    page = PAGE.read_text(encoding="utf-8")
    start, stop = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(f"{page[:start]}\n{table}\n{page[stop:]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/consumers", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    graphs = read_graphs()
    lines = ["| consumer | version | `model.onnx` | `network.onnx` |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for consumer in CONSUMERS:
            number = installed(consumer)
            if number is None:
                lines.append(f"| {consumer.title} | | not run: not installed | not run |")
            else:
                cells = [measure(consumer, graph, Path(folder)) for graph in graphs]
                lines.append(f"| {consumer.title} | {number} | {cells[0]} | {cells[1]} |")
            print(lines[-1], file=sys.stderr, flush=True)
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    today = datetime.datetime.now(datetime.UTC).date()
    table = "\n".join([*lines, "", f"Measured on {today}, {processor}, {platform.system()}."])
    print(table)
    if options.write:
        write(table)


if __name__ == "__main__":
    main()
