"""The ``truecopy parity`` command: parse, call, print."""

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exporter.cli import Imports, Trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from exporter.parity.pixels import PixelRow


def parity(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="The folder that 'truecopy export' wrote.")],
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint that it was made from.")],
    arch: Annotated[str | None, typer.Option(help="Where the architecture is now. Default: as exported.")] = None,
    preprocess: Annotated[
        str | None, typer.Option(metavar="REFERENCE", help="The transform, as in the export.")
    ] = None,
    samples: Annotated[Path | None, typer.Option(help="Photos to prove with. Default: four of our own.")] = None,
    trust: Trust = False,
    import_: Imports = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Prove an image artifact again, and its pixels step by step; exit status 1 if anything differs."""
    import dataclasses

    import msgspec
    from rich.console import Console

    from exporter import check_extra

    check_extra()
    from exporter.checking import check

    checked = check(
        artifact,
        checkpoint,
        architecture=arch,
        preprocess=preprocess,
        samples=samples,
        trust=trust,
        imports=import_ or (),
    )
    if json:
        pixels = [dataclasses.asdict(row) for row in checked.pixels]
        summary = {"passed": checked.passed, "parity": msgspec.to_builtins(checked.report), "pixels": pixels}
        sys.stdout.write(json_module.dumps(summary, indent=2) + "\n")
    else:
        console = Console()
        console.print(checked.report.to_table())
        console.print()
        console.print(_pixel_table(checked.pixels))
    if not checked.passed:
        differing = next((row for row in checked.pixels if row.difference), None)
        reason = checked.report.reason or (f"{differing.path}, after step {differing.step}" if differing else "")
        sys.stderr.write(f"error: '{artifact}': not the eager model's answers: {reason}. Export it again.\n")
        raise typer.Exit(1)


def _pixel_table(rows: "Sequence[PixelRow]") -> "Table":
    from rich.table import Table

    table = Table(
        box=None, header_style="bold", pad_edge=False, title="prepared pixels, on made images", title_justify="left"
    )
    for name in ("after step", "path", "images", "largest", "differing", "verdict"):
        table.add_column(name, justify="right" if name in {"images", "largest", "differing"} else "left")
    for row in rows:
        verdict = f"[red]failed[/] on {row.worst}" if row.difference else "[green]passed[/]"
        table.add_row(row.step, row.path, str(row.images), str(row.difference), f"{row.share:.3%}", verdict)
    return table
