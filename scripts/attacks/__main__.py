"""Runs the attacks and prints what they led to beside the floors; exits with 1 where one is missed."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from support.hostile_requests import send_all
from support.serving import DATA, serving

from attacks import cases, fields, files, measurement

PARTS = ("costs", "files", "fields", "requests")
ARTIFACT = DATA / "tiny"
_SEEDS_PER_LINE = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=PARTS, help=f"{', '.join(PARTS)}")
    parser.add_argument("--only", default="", help="text that the names of costly requests contain")
    parser.add_argument("--size-mb", type=float, default=31, help="megabytes of one costly request")
    parser.add_argument("--checkpoints", type=int, default=300, help="number of damaged checkpoints")
    parser.add_argument("--hostile", type=int, default=200, help="number of hostile checkpoints")
    parser.add_argument("--artifacts", type=int, default=200, help="number of hostile artifacts")
    parser.add_argument("--every", type=int, default=1, help="take every n-th hostile field of a manifest")
    parser.add_argument("--requests", type=int, default=20_000, help="number of fuzzed requests")
    options = parser.parse_args()
    console = Console(width=120, highlight=False)
    missed = 0
    for part in options.parts or PARTS:
        missed += {"costs": _costs, "files": _files, "fields": _fields, "requests": _requests}[part](options, console)
    sys.exit(1 if missed else 0)


def _costs(options: argparse.Namespace, console: Console) -> int:
    size = int(options.size_mb * cases.MIB)
    costs = []
    with serving(ARTIFACT, "--log-format", "none") as server:
        warm_up = cases.Attack(name="", path=cases.PREDICT, body=(DATA / "cat.jpg").read_bytes())
        for _ in range(20):
            measurement.send_http(server.url, warm_up)
        idle_mb = server.resident_mb
        for attacks in (cases.http_attacks, cases.grpc_attacks):
            for attack in attacks(size):
                if options.only in attack.name:
                    cost = measurement.measure(server, attack, idle_mb)
                    costs.append(cost)
                    console.print(
                        f"{cost.attack:45}{cost.status:>20}{cost.memory_mb:8.0f} MB{cost.seconds:7.2f} s"
                        f"{cost.health_s * 1000:7.0f} ms{'' if cost.passed else '  *'}"
                    )
    missed = sum(not cost.passed for cost in costs)
    console.print(
        f"{len(costs)} costly requests, {missed} above the floors: {measurement.MOST_MEMORY_MB:.0f} MB above idle, "
        f"{measurement.MOST_SECONDS:.0f} s until the response, {measurement.MOST_HEALTH_S * 1000:.0f} ms of health."
    )
    return missed


def _attacks(options: argparse.Namespace) -> Iterator[files.FileAttack]:
    yield from files.checkpoint_attacks(options.checkpoints, options.hostile)
    yield from files.artifact_attacks(ARTIFACT, options.artifacts)


def _files(options: argparse.Namespace, console: Console) -> int:
    outcomes = []
    for attack in _attacks(options):
        outcome = files.run(attack)
        outcomes.append(outcome)
        if outcome.fault:
            console.print(f"{outcome.name}: {outcome.fault}", markup=False)
    missed = sum(bool(outcome.fault) for outcome in outcomes)
    console.print(
        f"{options.checkpoints} damaged and {options.hostile} hostile checkpoints, {options.artifacts} hostile "
        f"artifacts: {missed} with a traceback, no end within {files.MOST_SECONDS} s or code run; "
        f"{sum(outcome.accepted for outcome in outcomes)} are as good as sound; at most "
        f"{max((outcome.seconds for outcome in outcomes), default=0):.1f} s and "
        f"{max((outcome.memory_mb for outcome in outcomes), default=0):.0f} MB each, PyTorch's own included."
    )
    return missed


def _fields(options: argparse.Namespace, console: Console) -> int:
    """Open an artifact with each hostile field; of the manifests that are accepted, use ``--artifacts`` whole."""
    manifests = list(fields.manifests(json.loads((ARTIFACT / "truecopy.json").read_bytes())))[:: options.every]
    accepted = []
    faults = []
    with tempfile.TemporaryDirectory(prefix="truecopy-attack-") as folder:
        artifact = shutil.copytree(ARTIFACT, Path(folder) / "x")
        for manifest in manifests:
            taken, fault = fields.outcome(artifact, manifest)
            accepted += [manifest] if taken else []
            faults += [f"{manifest.name}: {fault}"] if fault else []
    whole = accepted[:: max(1, len(accepted) // max(1, options.artifacts))]
    for manifest in whole:

        def make(folder: Path, manifest: fields.Manifest = manifest) -> str:
            (shutil.copytree(ARTIFACT, folder / "x") / "truecopy.json").write_bytes(manifest.text)
            return manifest.name

        attack = files.FileAttack(
            name="field", make=make, read=lambda folder: files.read_artifact(folder / "x", ARTIFACT)
        )
        outcome = files.run(attack)
        faults += [f"{outcome.name}: {outcome.fault}"] if outcome.fault else []
    for fault in faults:
        console.print(fault, markup=False)
    console.print(
        f"{len(manifests)} hostile fields, of which {len(accepted)} are as good as sound, and {len(whole)} of these "
        f"used whole: {len(faults)} with a traceback, a name twice, or no end within {fields.MOST_SECONDS} s."
    )
    return len(faults)


def _requests(options: argparse.Namespace, console: Console) -> int:
    started = time.monotonic()
    missed = 0
    with serving(ARTIFACT, "--deadline-s", 10) as server:
        idle_mb = server.resident_mb
        for first in range(0, options.requests, _SEEDS_PER_LINE):
            statuses, faults = send_all(server, range(first, min(first + _SEEDS_PER_LINE, options.requests)))
            missed += len(faults)
            console.print(f"{first:6}: {dict(statuses.most_common())}", markup=False)
            for fault in faults:
                console.print(fault, markup=False)
        grown_mb = server.resident_mb - idle_mb
        lines = len(server.other_lines)
    console.print(
        f"{options.requests} fuzzed requests in {time.monotonic() - started:.0f} s: {missed} statuses 5xx other than "
        f"503 and 504, INTERNAL and UNKNOWN; {lines} lines of tracebacks; {grown_mb:.0f} MB more than before."
    )
    return missed + lines


if __name__ == "__main__":
    main()
