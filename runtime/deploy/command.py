"""'truecopy deploy': parse, call. Each engine has one function that writes what it needs, in one table."""

import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from runtime.deploy.deployment import Deployment, write_deployment
from runtime.errors import InputError

# By engine: the function that builds its Deployment from the artifact's folder and the folder it will be in, by module
# and name, so that only the engine asked for is imported.
ENGINES = {
    "kserve": "runtime.deploy.kserve:build_kserve",
    "ray-serve": "runtime.deploy.ray_serve:build_ray_serve",
    "triton": "runtime.deploy.triton:build_triton",
}


def deploy(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help=f"One of: {', '.join(ENGINES)}.")],
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="The folder that 'truecopy export' wrote.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write: a folder that is new or empty.")],
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that has files, over our own.")] = False,
) -> None:
    """Write what an engine needs to serve the artifact."""
    if engine not in ENGINES:
        known = ", ".join(f"'{name}'" for name in ENGINES)
        close = get_close_matches(engine.lower(), ENGINES, n=1)
        advice = f"Did you mean '{close[0]}'?" if close else "Name one of these."
        raise InputError(f"engine '{engine}': unknown: expected one of {known}. {advice}")
    if not force and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise InputError(f"'{out}': exists: expected a new or empty folder, got one in use. Name another, or --force.")
    module, _, function = ENGINES[engine].partition(":")
    deployment: Deployment = getattr(import_module(module), function)(artifact, out)
    write_deployment(deployment, out)
    sys.stdout.write(f"{out}: written. Next:\n{deployment.next_steps}\n")
