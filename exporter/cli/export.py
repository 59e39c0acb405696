"""The ``export`` command, also ``truecopy export``."""

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exporter.cli.options import takes_options
from exporter.cli.preflight import check_export
from exporter.errors import ParityError
from exporter.recipe import ExportOptions
from runtime.console import open_console, run_app

if TYPE_CHECKING:
    from rich.console import Console

    from exporter.progress import Step
    from exporter.workflow import ExportResult

_STEP_WIDTH = len("preprocessing")


app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.command()
@takes_options(
    lambda _name, _option: True,
    checkpoint=Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint: a file, or a folder of shards.")],
    complete=True,
)
def export(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")] = False,
    *,
    options: ExportOptions,
) -> None:
    """Export a checkpoint as an artifact proven equal to the eager model; write nothing if it is not."""
    from exporter import check_extra

    check_export(options)
    check_extra()
    from exporter.workflow import run
    from runtime.inputs.registry import kind_of
    from runtime.reports.table import to_table

    console = open_console(stderr=json, quiet=json)
    terminal = _Terminal(console)
    try:
        with terminal:
            exported = run(options, terminal)
    except ParityError as error:
        if error.report is not None:
            console.print(to_table(error.report), highlight=False)
        raise
    if json:
        sys.stdout.write(json_module.dumps(_summary(exported), indent=2) + "\n")
        return
    console.print()
    console.print(to_table(exported.parity), highlight=False)
    example = kind_of(exported.manifest.inputs).example
    console.print(f"\n[green]proven[/]: truecopy predict {exported.artifact} {example}", highlight=False)


def main() -> None:
    """Run the ``export`` command."""
    run_app(app)


class _Terminal:
    """Shows the running step with a spinner, and each finished one as a line."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._status = console.status("")

    def __enter__(self) -> None:
        self._status.start()

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def started(self, name: str) -> None:
        self._status.update(name)

    def finished(self, step: "Step") -> None:
        from rich.markup import escape
        from rich.table import Table

        line = Table.grid(padding=(0, 2))
        line.add_column(width=_STEP_WIDTH, style="bold")
        line.add_column(width=len("000.0 s"), justify="right", style="dim")
        line.add_column(overflow="fold")
        line.add_row(step.name, f"{step.seconds:.1f} s", escape(step.finding))
        self._console.print(line)


def _summary(exported: "ExportResult") -> dict[str, Any]:
    import msgspec

    return {
        "artifact": str(exported.artifact),
        "manifest": msgspec.to_builtins(exported.manifest),
        "parity": msgspec.to_builtins(exported.parity),
        "steps": msgspec.to_builtins(exported.steps),
    }
