"""'truecopy deploy': parse, call. Each engine has one function that writes what it needs, in one table."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from runtime.errors import InputError

# By engine: the function that writes its files, by module and name, so that only the engine asked for is imported.
# It takes the artifact's folder and an empty folder, and returns what to run next, a command a line.
ENGINES = {"ray-serve": "runtime.deploy.ray_serve:write_ray_serve"}


def deploy(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help=f"One of: {', '.join(ENGINES)}.")],
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="The folder that 'truecopy export' wrote.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write: a folder that is new or empty.")],
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that has files, over our own.")] = False,
) -> None:
    """Write what an engine needs to serve the artifact."""
    if engine not in ENGINES:
        known = ", ".join(f"'{name}'" for name in ENGINES)
        raise InputError(f"engine '{engine}': unknown: expected one of {known}. Name one of these.")
    if not force and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise InputError(f"'{out}': exists: expected a new or empty folder, got one in use. Name another, or --force.")
    module, _, function = ENGINES[engine].partition(":")
    next_steps: str = getattr(import_module(module), function)(artifact, out)
    sys.stdout.write(f"{out}: written. Next:\n{next_steps}\n")
