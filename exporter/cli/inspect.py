"""The ``truecopy inspect`` command."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.options import named, takes_options
from exporter.options.export import ExportOptions
from runtime.console import open_console


@takes_options(
    named({"weights", "trust", "imports"}),
    checkpoint=Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint, a file or a folder; or the folder of an artifact.")
    ],
)
def inspect(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
    *,
    options: ExportOptions,
) -> None:
    """Inspect a checkpoint or an artifact; runs nothing that it holds, and needs no PyTorch."""
    from exporter.inspection import ArtifactInspection, Inspection, inspect_artifact, inspect_checkpoint, is_artifact

    inspection: ArtifactInspection | Inspection
    if is_artifact(options.checkpoint):
        inspection = inspect_artifact(options.checkpoint)
    else:
        inspection = inspect_checkpoint(
            options.checkpoint, weights=options.weights, trust=options.trust, imports=options.imports
        )
    if json:
        sys.stdout.write(json_module.dumps(inspection.to_dict(), indent=2) + "\n")
        return
    open_console().print(inspection.to_page())
