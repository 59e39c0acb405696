"""Peak memory of exports of large networks, as a multiple of their weights, and the step of the peak."""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.figures import Figure, Results
from benchmarks.processes import read_processes, with_descendants

CHECKPOINTS = Path("build/large")
EXPORT = str(Path(sys.executable).parent / "export")

# The promise: at most this many times the weights, and this much besides.
_TIMES, _BESIDES_MB = 3.5, 1000.0
_INTERVAL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Largest memory of a tree of processes: pages that several of them share, or map from a file, count once."""

    step: str
    seconds: float
    total_mb: float
    anonymous_mb: float


@dataclass(frozen=True, kw_only=True)
class _Sample:
    seconds: float
    total_mb: float
    anonymous_mb: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--networks",
        default="vgg16,vit_l_16",
        metavar="NAME,...",
        help="torchvision's names; vit_h_14 and regnet_y_128gf take 10 GB of free memory; default %(default)s",
    )


def measure(options: argparse.Namespace) -> Results:
    """Export each network once, and find the peak."""
    figures = []
    table = Table("network", "step", "peak MB", "of it anonymous", "s", title="largest memory of each step")
    details = {}
    for name in options.networks.split(","):
        checkpoint = _checkpoint(name)
        weights_mb = checkpoint.stat().st_size / 1e6
        peaks = measure_export(name, checkpoint)
        for peak in peaks:
            table.add_row(name, peak.step, f"{peak.total_mb:.0f}", f"{peak.anonymous_mb:.0f}", f"{peak.seconds:.1f}")
        highest = max(peaks, key=lambda peak: peak.total_mb)
        limit_mb = _TIMES * weights_mb + _BESIDES_MB
        figures.append(
            Figure(
                promise=f"export of {name} ({weights_mb:.0f} MB), peak memory",
                measured=f"{highest.total_mb:.0f} MB in step '{highest.step}'",
                target=f"{limit_mb:.0f} MB: {_TIMES:g} times the weights and {_BESIDES_MB:.0f} MB",
                met=highest.total_mb <= limit_mb,
            )
        )
        details[name] = {peak.step: round(peak.total_mb) for peak in peaks}
    return Results(figures=figures, details={"peak_mb_by_step": details}, tables=[table])


def measure_export(name: str, checkpoint: Path) -> list[Peak]:
    """Return the peak of each step of an export, in their order; the steps are the lines that it prints."""
    with tempfile.TemporaryDirectory(dir=CHECKPOINTS) as folder:
        command = [EXPORT, str(checkpoint), "--arch", name, "--resize", "256", "--crop", "224", "--out"]
        process = subprocess.Popen(
            [*command, f"{folder}/artifact"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        samples: list[_Sample] = []
        sampler = threading.Thread(target=_sample, args=(process, samples))
        sampler.start()
        assert process.stdout is not None
        lines = [(time.perf_counter(), line) for line in process.stdout]
        sampler.join()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{''.join(line for _, line in lines)}")
    return _peaks(lines, samples)


def _peaks(lines: list[tuple[float, str]], samples: list[_Sample]) -> list[Peak]:
    peaks, start = [], samples[0].seconds
    for end, line in lines:
        words = line.split()
        # A line of a step is its name, its seconds, and what it found.
        if len(words) < 3 or words[2] != "s" or line.startswith(" "):
            continue
        during = [sample for sample in samples if start <= sample.seconds < end]
        if during:
            highest = max(during, key=lambda sample: sample.total_mb)
            peaks.append(
                Peak(
                    step=words[0],
                    seconds=float(words[1]),
                    total_mb=highest.total_mb,
                    anonymous_mb=highest.anonymous_mb,
                )
            )
        start = end
    return peaks


def _sample(process: "subprocess.Popen[str]", samples: list[_Sample]) -> None:
    while process.poll() is None:
        total_kb = anonymous_kb = 0
        for pid in with_descendants([process.pid], read_processes()):
            with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                sizes = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
                total_kb += sizes["Pss"]
                anonymous_kb += sizes["Pss_Anon"]
        samples.append(_Sample(seconds=time.perf_counter(), total_mb=total_kb / 1e3, anonymous_mb=anonymous_kb / 1e3))
        time.sleep(_INTERVAL_S)


def _checkpoint(name: str) -> Path:
    """Return the checkpoint of a network, made at its first use: a process of its own builds it."""
    path = CHECKPOINTS / f"{name}.pth"
    if not path.exists():
        CHECKPOINTS.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        subprocess.run([sys.executable, "-m", "benchmarks.large_checkpoint", name, str(partial)], check=True)
        partial.rename(path)
    return path
