"""'truecopy deploy': parse, call. Each engine has one function that builds what it needs, in one table."""

import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from runtime.deploy.deployment import Deployment, write_deployment
from runtime.errors import InputError


class Engine(NamedTuple):
    """An engine: what is written for it, and the function that builds its Deployment, by module and name.

    The function takes the artifact's folder and the folder to write to; only the one that is asked for is imported.
    """

    writes: str
    build: str


ENGINES = {
    "container": Engine(
        "a Dockerfile with its lock, bill of materials and compose file",
        "runtime.deploy.container.build:build_container",
    ),
    "kserve": Engine("a ServingRuntime and an InferenceService", "runtime.deploy.kserve:build_kserve"),
    "ray-serve": Engine("a Ray Serve application and its serve.yaml", "runtime.deploy.ray.serve:build_ray_serve"),
    "triton": Engine(
        "model repositories for the onnxruntime and Python backends", "runtime.deploy.triton.repository:build_triton"
    ),
}
_ENGINE_HELP = "; ".join(f"'{name}': {engine.writes}" for name, engine in ENGINES.items())


def deploy(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help=f"{_ENGINE_HELP}.")],
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
    module, _, function = ENGINES[engine].build.partition(":")
    deployment: Deployment = getattr(import_module(module), function)(artifact, out)
    write_deployment(deployment, out)
    sys.stdout.write(f"{out}: written. Next:\n{deployment.next_steps}\n")
