"""The ``truecopy`` command: what needs no PyTorch here, the exporter's commands from one table."""

import sys
import warnings
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.console import DEVICE_HELP, make_app, open_console, run_app, set_error_exit_code
from runtime.deploy.command import deploy
from runtime.server.command import serve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.bench import Rival
    from runtime.results import Result
    from runtime.verify import Verification

# Commands that live beyond the wall, by module and function. Importing one of these modules imports no PyTorch.
EXPORTER_COMMANDS = {
    "export": "exporter.cli.export:export",
    "inspect": "exporter.cli.export:inspect",
    "parity": "exporter.cli.parity:parity",
    "evaluate": "exporter.cli.evaluate:evaluate",
    "calibrate": "exporter.cli.evaluate:calibrate",
}

# What 'bench --against' takes from beyond the wall.
BUILD_BASELINES = "exporter.eager.bench:build_baselines"

app = make_app(
    "Turn a PyTorch checkpoint into an artifact proven equal to the eager model, and run it without PyTorch."
)


class Format(Enum):
    """How results are printed."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


Artifact = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="The folder that 'truecopy export' wrote.")]
Device = Annotated[str, typer.Option(help=DEVICE_HELP)]


def _add_exporter_commands() -> None:
    for name, reference in EXPORTER_COMMANDS.items():
        module, function = reference.split(":")
        app.command(name)(getattr(import_module(module), function))


_add_exporter_commands()
app.command()(serve)
app.command()(deploy)


@app.command()
def predict(
    artifact: Artifact,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, globs, - for a list on stdin, .txt lists, .csv, .jsonl and .parquet tables, or "
            "their URLs, such as s3://bucket/folder.",
        ),
    ],
    column: Annotated[str | None, typer.Option(help="The column of a table that holds the inputs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the rows to this file: .jsonl, .csv or .parquet.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished --out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace --out and what is unfinished of it.")] = False,
    allow_errors: Annotated[bool, typer.Option("--allow-errors", help="Exit with 0 although inputs failed.")] = False,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to list for each input.")] = 5,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="A lower best probability gives the label 'unknown'.")
    ] = None,
    max_megapixels: Annotated[float, typer.Option(help="Larger images are refused before they are decoded.")] = 64,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For label maps: write each as a PNG over its image.")
    ] = None,
    device: Device = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Inputs in work at once; by default the cores.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one call of the network.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Inputs in one call of the network.")] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="Allow TF32 on CUDA: faster, not PyTorch's arithmetic.")] = False,
    memory_limit_mb: Annotated[int | None, typer.Option(min=1, help="A bound on CUDA's memory.")] = None,
    format: Annotated[  # noqa: A002
        Format | None, typer.Option(help="By default a table, or what the name of --out ends with.")
    ] = None,
    engine: Annotated[str, typer.Option(help="Who works: local, which is this process, or ray.")] = "local",
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="With --engine ray: a running cluster, or auto.")
    ] = None,
) -> None:
    """Label inputs: one row each, in the order given; exit status 1 if any failed."""
    from runtime.jobs.command import predict as run
    from runtime.jobs.options import JobOptions

    request = JobOptions(
        artifact=artifact,
        inputs=tuple(inputs),
        column=column,
        out=out,
        format=format.value if format else None,
        resume=resume,
        force=force,
        allow_errors=allow_errors,
        top_k=top_k,
        threshold=threshold,
        max_pixels=int(max_megapixels * 1_000_000),
        device=device,
        workers=workers,
        threads=threads,
        batch=batch,
        tf32=tf32,
        memory_limit_mb=memory_limit_mb,
        output=output,
        engine=engine,
        address=address,
    )
    run(request, _print_predictions)


@app.command()
def verify(
    artifact: Artifact,
    device: Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as one JSON object.")] = False,
) -> None:
    """Check an artifact's files, then its golden inputs on this device; exit status 1 if one is off."""
    from runtime.manifest import struct_to_json
    from runtime.verify import verify as verify_artifact

    verification = verify_artifact(artifact, device=device)
    if json:
        sys.stdout.write(struct_to_json(verification).decode())
    else:
        _print_verification(verification)
    if not verification.passed:
        sys.stderr.write(
            f"error: '{artifact}': this device's answers are not the eager model's. Do not serve it here; "
            "compare 'onnxruntime' and 'pillow' versions with the manifest's 'tools'.\n"
        )
        raise typer.Exit(1)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="An artifact.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another, such as the next release.")],
    json: Annotated[bool, typer.Option("--json", help="Print the differences as one JSON object.")] = False,
) -> None:
    """Say how two artifacts differ, part by part; exit status 0 if they do not, 1 if they do, 2 on errors."""
    set_error_exit_code(2)
    from runtime.artifact.diff import compare_artifacts
    from runtime.manifest import struct_to_json

    comparison = compare_artifacts(first, second)
    if json:
        sys.stdout.write(struct_to_json(comparison).decode())
    else:
        from runtime.cli.tables import print_comparison

        print_comparison(comparison)
    if not comparison.equal:
        raise typer.Exit(1)


@app.command()
def bench(
    artifact: Artifact,
    samples: Annotated[list[Path] | None, typer.Argument(help="Files to measure with. Default: golden inputs.")] = None,
    device: Device = "auto",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each figure is measured.")] = 2.0,
    against: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Put PyTorch beside it, from the checkpoint exported.")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="With --against: where the architecture is now.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="With --against: load a whole pickled module.")] = False,
    import_: Annotated[
        list[Path] | None, typer.Option("--import", metavar="PATH", help="With --trust: its code; repeat for more.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure an artifact on this machine: latency, throughput by workers, where the time goes."""
    from runtime.artifact.open import open_artifact
    from runtime.bench import measure_model
    from runtime.cli.tables import print_bench
    from runtime.manifest import struct_to_json

    def build(found: str) -> "Mapping[str, Rival]":
        module, function = BUILD_BASELINES.split(":")
        rivals: Mapping[str, Rival] = getattr(import_module(module), function)(
            against, open_artifact(artifact), device=found, arch=arch, trust=trust, imports=import_ or ()
        )
        return rivals

    with warnings.catch_warnings():
        # Golden inputs ask for a rotation on purpose.
        warnings.filterwarnings("ignore", message=".*EXIF")
        report = measure_model(
            artifact, device=device, samples=samples or (), seconds=seconds, build_baselines=build if against else None
        )
    if json:
        sys.stdout.write(struct_to_json(report).decode())
    else:
        print_bench(report)


@app.command()
def doctor(
    artifact: Annotated[Path | None, typer.Argument(metavar="ARTIFACT", help="An artifact to check here.")] = None,
    device: Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON object.")] = False,
) -> None:
    """Say what this machine has and misses; exit status 1 if something needed is missing."""
    from runtime.cli.tables import print_diagnosis
    from runtime.doctor import diagnose
    from runtime.manifest import struct_to_json

    diagnosis = diagnose(artifact, device=device)
    if json:
        sys.stdout.write(struct_to_json(diagnosis).decode())
    else:
        print_diagnosis(diagnosis)
    if not diagnosis.healthy:
        sys.stderr.write("error: something that is needed here is missing or wrong. The lines above say what to do.\n")
        raise typer.Exit(1)


def main() -> None:
    """Run the ``truecopy`` command."""
    run_app(app)


def _print_predictions(results: "list[Result]") -> None:
    from rich.table import Table

    from runtime.results import Failure, Prediction

    labelled = all(isinstance(result, Failure | Prediction) for result in results)
    headings = ("input", "label", "probability", "next") if labelled else ("input", "answer")
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    # Short names stay whole, labels are read, and the runner-up gives way first.
    table.columns[0].overflow = "fold"
    table.columns[0].min_width = min(32, max((len(result.input) for result in results), default=0))
    if labelled:
        named = [len(result.label) for result in results if isinstance(result, Prediction)]
        table.columns[1].min_width = min(16, max(named, default=0))
        table.columns[2].justify, table.columns[2].no_wrap, table.columns[2].min_width = "right", True, 11
    for result in results:
        if isinstance(result, Failure):
            table.add_row(_escape(result.input), f"[red]failed[/]: {_escape(result.error)}")
            continue
        if not isinstance(result, Prediction):
            table.add_row(_escape(result.input), _escape(str(result).removeprefix(f"{result.input}: ")))
            continue
        second = "".join(f"{scored.label} {scored.probability:.1%}" for scored in result.top[1:2])
        table.add_row(_escape(result.input), _escape(result.label), f"{result.probability:.1%}", _escape(second))
    open_console().print(table)


def _print_verification(verification: "Verification") -> None:
    from rich.table import Table

    console = open_console()
    console.print(f"{verification.files} files: sizes and SHA-256 as exported")
    table = Table("check", "worst", "limit", "", "verdict", box=None, header_style="bold", pad_edge=False)
    for check in verification.checks:
        verdict = "[green]passed[/]" if check.passed else "[red]failed[/]"
        table.add_row(check.name, f"{check.worst:.2g}", f"{check.limit:g}", check.unit, verdict)
    console.print(table)
    verdict = "[green]passed[/]" if verification.passed else "[red]failed[/]"
    console.print(f"{verdict}: {verification.inputs} golden inputs on {verification.device}")


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
