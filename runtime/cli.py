"""The ``truecopy`` command: what needs no PyTorch here, the exporter's commands from one table."""

import sys
import warnings
from enum import Enum
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.console import DEVICE_HELP, make_app, run_app

if TYPE_CHECKING:
    from runtime.results import Result
    from runtime.verify import Verification

# Commands that live beyond the wall, by module and function. Importing one of these modules imports no PyTorch.
EXPORTER_COMMANDS = {
    "export": "exporter.cli:export",
    "inspect": "exporter.cli:inspect",
    "evaluate": "exporter.quality:evaluate",
    "calibrate": "exporter.quality:calibrate",
}

# Results that are printed together.
_PAGE = 1024

app = make_app(
    "Turn a PyTorch checkpoint into an artifact proven equal to the eager model, and run it without PyTorch."
)


class Format(Enum):
    """How results are printed."""

    TABLE = "table"
    JSONL = "jsonl"


Artifact = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="The folder that 'truecopy export' wrote.")]
Device = Annotated[str, typer.Option(help=DEVICE_HELP)]


def _add_exporter_commands() -> None:
    for name, reference in EXPORTER_COMMANDS.items():
        module, function = reference.split(":")
        app.command(name)(getattr(import_module(module), function))


_add_exporter_commands()


@app.command()
def predict(
    artifact: Artifact,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Files, or folders of them: images, tables, arrays.")
    ],
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to list for each input.")] = 5,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="A lower best probability gives the label 'unknown'.")
    ] = None,
    max_megapixels: Annotated[float, typer.Option(help="Larger images are refused before they are decoded.")] = 64,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For label maps: write each as a PNG over its image.")
    ] = None,
    device: Device = "auto",
    format: Annotated[Format, typer.Option(help="A table for people, or one JSON object a line.")] = Format.TABLE,  # noqa: A002
) -> None:
    """Predict: one row an input, in the order given; exit status 1 if any failed."""
    from runtime.decode.sources import read_inputs
    from runtime.model import load
    from runtime.overlays import Overlays
    from runtime.results import Failure, Segmentation

    model = load(artifact, device=device, max_pixels=int(max_megapixels * 1_000_000))
    overlays = Overlays(model, output) if output is not None else None
    results = model.predict_each(read_inputs(model.manifest, inputs), top_k=top_k, threshold=threshold)
    count = failures = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # A page at a time: a table of a million rows is read, predicted and printed in little memory.
        while page := list(islice(results, _PAGE)):
            count += len(page)
            failures += sum(isinstance(result, Failure) for result in page)
            for result in page:
                if overlays is not None and isinstance(result, Segmentation):
                    overlays.write(result)
            (_print_rows if format is Format.JSONL else _print_predictions)(page)
            while caught:
                sys.stderr.write(f"warning: {caught.pop().message}\n")
    if failures:
        sys.stderr.write(f"error: {failures} of {count} inputs failed. Their rows say why.\n")
        raise typer.Exit(1)


@app.command()
def verify(
    artifact: Artifact,
    device: Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as one JSON object.")] = False,
) -> None:
    """Check an artifact's files, then its golden inputs on this device; exit status 1 if one is off."""
    from runtime.manifest import to_json
    from runtime.verify import verify as verify_artifact

    verification = verify_artifact(artifact, device=device)
    if json:
        sys.stdout.write(to_json(verification).decode())
    else:
        _print_verification(verification)
    if not verification.passed:
        sys.stderr.write(
            f"error: '{artifact}': this device's answers are not the eager model's. Do not serve it here; "
            "compare 'onnxruntime' and 'pillow' versions with the manifest's 'tools'.\n"
        )
        raise typer.Exit(1)


def main() -> None:
    """Run the ``truecopy`` command."""
    run_app(app)


def _print_rows(results: "list[Result]") -> None:
    import msgspec

    for result in results:
        sys.stdout.write(msgspec.json.encode(result.to_dict()).decode() + "\n")


def _print_predictions(results: "list[Result]") -> None:
    from rich.console import Console
    from rich.table import Table

    from runtime.results import Failure, Prediction

    table = Table("input", "label", "probability", "next", box=None, header_style="bold", pad_edge=False)
    # Short names stay whole; the runner-up gives way first.
    table.columns[0].overflow = "fold"
    table.columns[0].min_width = min(48, max((len(result.input) for result in results), default=0))
    table.columns[2].justify = "right"
    for result in results:
        if isinstance(result, Failure):
            table.add_row(result.input, f"[red]failed[/]: {_escape(result.error)}", "", "")
            continue
        if not isinstance(result, Prediction):
            table.add_row(_escape(result.input), _escape(str(result).partition(": ")[2]), "", "")
            continue
        second = "".join(f"{scored.label} {scored.probability:.1%}" for scored in result.top[1:2])
        table.add_row(_escape(result.input), _escape(result.label), f"{result.probability:.1%}", _escape(second))
    Console().print(table)


def _print_verification(verification: "Verification") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
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
