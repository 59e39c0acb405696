"""Parameters and messages that the commands on labeled data share."""

import sys
from pathlib import Path
from typing import Annotated

import typer

Artifact = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder that 'truecopy export' wrote.")]
Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Folder with one folder per class, or with 'images' and 'masks'; or a table with a column of labels.",
    ),
]
LabelColumn = Annotated[str, typer.Option(metavar="NAME", help="Column of DATA that holds the label.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def print_failures(failures: dict[str, str]) -> None:
    """Print why inputs were skipped, on stderr."""
    for reason in list(failures.values())[:10]:
        sys.stderr.write(f"skipped: {reason}\n")
    if len(failures) > 10:
        sys.stderr.write(f"skipped: {len(failures) - 10} more\n")
