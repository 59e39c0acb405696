"""Command 'truecopy deploy', and the table of its engines."""

import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from runtime.artifact.open import open_artifact
from runtime.console import PRECISION_HELP
from runtime.deploy.deployment import Deployment, write_deployment
from runtime.errors import InputError


class DeploymentBuilder(NamedTuple):
    """What is written for an engine, and the function that builds its Deployment, as ``module:name``.

    The function takes the artifact's folder, the folder to write to and a precision; only the chosen one is imported.
    """

    writes: str
    build: str


ENGINES = {
    "container": DeploymentBuilder(
        "a Dockerfile with its lock, bill of materials and compose file",
        "runtime.deploy.container.build:build_container",
    ),
    "kserve": DeploymentBuilder("a ServingRuntime and an InferenceService", "runtime.deploy.kserve:build_kserve"),
    "ray-serve": DeploymentBuilder(
        "a Ray Serve application and its serve.yaml", "runtime.deploy.ray.serve:build_ray_serve"
    ),
    "triton": DeploymentBuilder(
        "model repositories for the onnxruntime and Python backends", "runtime.deploy.triton.repository:build_triton"
    ),
}
_ENGINE_HELP = "; ".join(f"'{name}': {engine.writes}" for name, engine in ENGINES.items())


def deploy(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help=f"{_ENGINE_HELP}.")],
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder that 'truecopy export' wrote.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="New or empty folder to write to.")],
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder with files, and replace those of the same names.")
    ] = False,
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "fp32",
) -> None:
    """Write the files that an engine needs to serve the artifact."""
    if engine not in ENGINES:
        known = ", ".join(f"'{name}'" for name in ENGINES)
        close = get_close_matches(engine.lower(), ENGINES, n=1)
        advice = f"Did you mean '{close[0]}'?" if close else "Pass one of these."
        raise InputError(f"engine '{engine}': unknown: expected one of {known}. {advice}")
    if not force and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise InputError(f"'{out}' already exists and is not empty. Choose another --out, or pass --force.")
    open_artifact(artifact).manifest.variant(precision)
    module, _, function = ENGINES[engine].build.partition(":")
    deployment: Deployment = getattr(import_module(module), function)(artifact, out, precision)
    write_deployment(deployment, out)
    sys.stdout.write(f"{out}: written. Next:\n{deployment.next_steps}\n")
