"""The ``truecopy inspect`` command."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.options import named, takes_options
from exporter.recipe import ExportOptions
from runtime.console import open_console
from runtime.manifest import LAYOUT


@takes_options(
    named({"weights", "trust", "imports"}),
    checkpoint=Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint: a file or a folder; or an artifact.")
    ],
)
def inspect(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
    *,
    options: ExportOptions,
) -> None:
    """Inspect a checkpoint and list matching architectures, or an artifact and its variants; runs nothing."""
    if (options.checkpoint / LAYOUT.manifest).is_file():
        _print_artifact(options.checkpoint, json=json)
        return
    from exporter.inspection import inspect_checkpoint

    inspection = inspect_checkpoint(
        options.checkpoint, weights=options.weights, trust=options.trust, imports=options.imports
    )
    if json:
        sys.stdout.write(json_module.dumps(inspection.to_dict(), indent=2) + "\n")
        return
    open_console().print(inspection.to_page())


def _print_artifact(path: Path, *, json: bool) -> None:
    """Print an artifact's variants, or its manifest as JSON."""
    from runtime.artifact.open import open_artifact
    from runtime.cli.tables import print_variants
    from runtime.manifest import struct_to_json

    manifest = open_artifact(path).manifest
    if json:
        sys.stdout.write(struct_to_json(manifest).decode())
        return
    print_variants(manifest)
