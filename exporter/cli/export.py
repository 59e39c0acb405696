"""The ``export`` command, also ``truecopy export``."""

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exporter.cli.options import takes_options
from exporter.cli.preflight import check_export
from exporter.cli.terminal import TerminalProgress
from exporter.errors import ParityError
from exporter.options.export import ExportOptions
from runtime.cli.parsing import Command
from runtime.console import open_console, run_app
from runtime.engine.signals import ending_runs

if TYPE_CHECKING:
    from exporter.workflow import ExportResult

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.command(cls=Command)
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

    check_extra()
    check_export(options)
    from runtime.inputs.registry import kind_of
    from runtime.reports.table import to_table

    console = open_console(stderr=json, quiet=json)
    try:
        with TerminalProgress(console) as terminal:
            with terminal.loading():
                from exporter.workflow import run
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
    if exported.variant is not None:
        from exporter.cli.quantize import print_report

        print_report(exported.variant)
    example = kind_of(exported.manifest.inputs).example
    console.print(f"\n[green]proven[/]: truecopy predict {exported.artifact} {example}", highlight=False)


def main() -> None:
    """Run the ``export`` command."""
    with ending_runs():
        run_app(app)


def _summary(exported: "ExportResult") -> dict[str, Any]:
    import msgspec

    variant = {} if exported.variant is None else {"variant": msgspec.to_builtins(exported.variant)}
    return {
        "artifact": str(exported.artifact),
        "manifest": msgspec.to_builtins(exported.manifest),
        "parity": msgspec.to_builtins(exported.parity),
        "steps": msgspec.to_builtins(exported.steps),
        **variant,
    }
