"""The ``truecopy`` command: the runtime's commands, and the exporter's by name."""

import ast
import os
import sys
import warnings
from collections.abc import Callable, Collection
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from runtime.console import DEVICE_HELP, PRECISION_HELP, Command, make_app, run_app, set_error_exit_code
from runtime.engine.signals import ending_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runtime.bench import Runner
    from runtime.results import Result

# Commands of the exporter, by module and function. Importing one of these modules imports no PyTorch.
EXPORTER_COMMANDS = {
    "export": "exporter.cli.export:export",
    "inspect": "exporter.cli.inspect:inspect",
    "parity": "exporter.cli.parity:parity",
    "evaluate": "exporter.cli.evaluate:evaluate",
    "calibrate": "exporter.cli.calibrate:calibrate",
    "quantize": "exporter.cli.quantize:quantize",
}

# The exporter's function behind 'bench --against'.
BUILD_BASELINES = "exporter.eager.bench:build_baselines"

Artifact = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder that 'truecopy export' wrote.")]
Device = Annotated[str, typer.Option(help=DEVICE_HELP)]
Precision = Annotated[str, typer.Option(help=PRECISION_HELP)]
Format = Literal["table", "jsonl", "csv", "parquet"]


def predict(
    artifact: Artifact,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, globs, .txt lists, .csv, .jsonl and .parquet tables, - for a list on stdin, or URLs "
            "of these, such as s3://bucket/folder.",
        ),
    ],
    column: Annotated[str | None, typer.Option(help="Column of a table that holds the inputs.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write the rows to: .jsonl, .csv or .parquet; - for JSONL on stdout.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished --out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing or unfinished --out.")] = False,
    allow_errors: Annotated[bool, typer.Option("--allow-errors", help="Exit with 0 even if inputs failed.")] = False,
    top_k: Annotated[int, typer.Option(min=1, help="Number of classes to list for each input.")] = 5,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest probability of a label; below it, 'unknown'.")
    ] = None,
    max_megapixels: Annotated[
        float,
        typer.Option(
            help="Refuse images that are larger, or become larger on the way to the network, before they are decoded."
        ),
    ] = 64,
    overlays: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for label maps drawn over their images, as PNG.")
    ] = None,
    precision: Precision = "fp32",
    device: Device = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Inputs processed at once. Default: the number of cores.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads per call of the network.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Inputs per call of the network.")] = None,
    tf32: Annotated[
        bool, typer.Option("--tf32", help="Allow TF32 on CUDA: faster, and less exact than PyTorch's default.")
    ] = False,
    memory_limit_mb: Annotated[int | None, typer.Option(min=1, help="Limit of CUDA memory, in MB.")] = None,
    format: Annotated[  # noqa: A002
        Format | None, typer.Option(help="Output format. Default: a table, or by the suffix of --out.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Execution engine: this process, or a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Running Ray cluster, or auto (--engine ray).")
    ] = None,
) -> None:
    """Run the model on files, folders or tables.

    Prints one row per input, in order; exits 1 if an input failed.
    """
    from runtime.jobs.command import predict as run
    from runtime.jobs.options import JobOptions

    is_stdout = out == Path("-")
    request = JobOptions(
        artifact=artifact,
        inputs=tuple(inputs),
        column=column,
        out=None if is_stdout else out,
        format="jsonl" if is_stdout and format is None else format,
        resume=resume,
        force=force,
        allow_errors=allow_errors,
        top_k=top_k,
        threshold=threshold,
        max_pixels=int(max_megapixels * 1_000_000),
        precision=precision,
        device=device,
        workers=workers,
        threads=threads,
        batch=batch,
        tf32=tf32,
        memory_limit_mb=memory_limit_mb,
        overlays=overlays,
        engine=engine,
        address=address,
    )
    run(request, _print_predictions)


def verify(
    artifact: Artifact,
    precision: Precision = "fp32",
    device: Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as one JSON object.")] = False,
) -> None:
    """Check an artifact's files and golden inputs on this device.

    Needs no PyTorch; exits 1 if a check fails.
    """
    from runtime.cli.tables import print_verification
    from runtime.verify import verify as verify_artifact

    verification = verify_artifact(artifact, device=device, precision=precision)
    _print(verification, print_verification, json=json)
    if not verification.passed:
        sys.stderr.write(
            f"error: '{artifact}': this device does not reproduce {verification.compared_with}. Do not serve it here; "
            "compare the versions of 'onnxruntime' and 'pillow' with the manifest's 'tools'.\n"
        )
        raise typer.Exit(1)


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="An artifact.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another artifact, such as the next release.")],
    json: Annotated[bool, typer.Option("--json", help="Print the differences as one JSON object.")] = False,
) -> None:
    """Compare two artifacts, part by part.

    Exits 0 if they are equal, 1 if they differ, 2 on errors.
    """
    set_error_exit_code(2)
    from runtime.artifact.diff import compare_artifacts
    from runtime.cli.tables import print_comparison

    comparison = compare_artifacts(first, second)
    _print(comparison, print_comparison, json=json)
    if not comparison.equal:
        raise typer.Exit(1)


def bench(
    artifact: Artifact,
    samples: Annotated[
        list[Path] | None, typer.Argument(help="Files to measure with. Default: the golden inputs.")
    ] = None,
    precision: Precision = "fp32",
    device: Device = "auto",
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of each measurement.")] = 2.0,
    against: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Exported checkpoint, to measure PyTorch as well.")
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="Where the architecture is now, if it has moved (--against).")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load a whole pickled module, which runs its code (--against).")
    ] = False,
    import_: Annotated[
        list[Path] | None,
        typer.Option("--import", metavar="PATH", help="Source of a pickled module; repeat for more (--trust)."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Measure latency, throughput and stages on this machine."""
    from runtime.artifact.open import open_artifact
    from runtime.bench import measure_model
    from runtime.cli.tables import print_bench

    def build(opened_device: str) -> "Mapping[str, Runner]":
        module, function = BUILD_BASELINES.split(":")
        baselines: Mapping[str, Runner] = getattr(import_module(module), function)(
            against, open_artifact(artifact), device=opened_device, arch=arch, trust=trust, imports=import_ or ()
        )
        return baselines

    with warnings.catch_warnings():
        # Golden inputs have an EXIF rotation on purpose.
        warnings.filterwarnings("ignore", message=".*EXIF")
        report = measure_model(
            artifact,
            precision=precision,
            device=device,
            samples=samples or (),
            seconds=seconds,
            build_baselines=build if against else None,
        )
    _print(report, print_bench, json=json)


def doctor(
    artifact: Annotated[
        Path | None, typer.Argument(metavar="ARTIFACT", help="Artifact to check on this machine.")
    ] = None,
    device: Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON object.")] = False,
) -> None:
    """Report this machine's versions, devices, cores and memory.

    With an artifact, also whether it runs here; exits 1 if something needed is missing.
    """
    from runtime.cli.tables import print_diagnosis
    from runtime.doctor import diagnose

    diagnosis = diagnose(artifact, device=device)
    _print(diagnosis, print_diagnosis, json=json)
    if not diagnosis.healthy:
        sys.stderr.write("error: something needed is missing or wrong here. The lines above say what to do.\n")
        raise typer.Exit(1)


# The commands in the order of 'truecopy --help', by panel; those of other modules by module and function.
_PANELS: dict[str, dict[str, Callable[..., None] | str]] = {
    "Make": {name: EXPORTER_COMMANDS[name] for name in ("export", "inspect", "parity", "quantize")},
    "Use": {
        "predict": predict,
        "serve": "runtime.server.command:serve",
        **{name: EXPORTER_COMMANDS[name] for name in ("evaluate", "calibrate")},
    },
    "Check": {"verify": verify, "diff": diff, "doctor": doctor, "bench": bench},
    "Deploy": {"deploy": "runtime.deploy.command:deploy"},
}


def build_app(loaded: Collection[str] | None = None) -> typer.Typer:
    """Return the application; of commands that are not ``loaded``, by default all, it knows the name and the help."""
    app = make_app(
        "Turn a PyTorch checkpoint into an artifact proven equal to the eager model, and run it without PyTorch."
    )
    for panel, commands in _PANELS.items():
        for name, command in commands.items():
            if loaded is not None and name not in loaded:
                command = _without_parameters(command)
            elif isinstance(command, str):
                module, _, function = command.partition(":")
                command = getattr(import_module(module), function)
            app.command(name, cls=Command, rich_help_panel=panel)(command)
    return app


def _without_parameters(command: Callable[..., None] | str) -> Callable[[], None]:
    """Return a command that does nothing and has the docstring of another, whose module is not imported."""

    def summarized() -> None: ...

    summarized.__doc__ = _read_docstring(*command.split(":")) if isinstance(command, str) else command.__doc__
    return summarized


def _read_docstring(module: str, function: str) -> str | None:
    """Return the docstring of a function from its module's source."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    definitions = ast.parse(Path(spec.origin).read_bytes()).body
    (found,) = (node for node in definitions if isinstance(node, ast.FunctionDef) and node.name == function)
    return ast.get_docstring(found)


def main() -> None:
    """Run the ``truecopy`` command."""
    # OpenMP's threads, which torch computes with, spin while they wait, and take the cores from onnxruntime's. Measured
    # on two busy cores: an export of resnet18 takes 60 s of processor time, and 23 s where they sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Importing all commands and making their parameters takes a fifth of the time until the first label.
    asked = sys.argv[1:2]
    known = {name for commands in _PANELS.values() for name in commands}
    with ending_runs():
        run_app(build_app(asked if known.intersection(asked) or asked in (["-h"], ["--help"]) else None))


def _print_predictions(results: "Sequence[Result]") -> None:
    # Other formats than the table need no rich.
    from runtime.cli.tables import print_predictions

    print_predictions(results)


def _print(report: Any, print_table: Callable[[Any], None], *, json: bool) -> None:
    """Print a report as JSON or for people."""
    if json:
        from runtime.manifest import struct_to_json

        sys.stdout.write(struct_to_json(report).decode())
    else:
        print_table(report)
