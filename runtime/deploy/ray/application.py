"""Ray Serve application: every replica has the model and the HTTP API of 'truecopy serve'.

A 'serve.yaml' names ``build_application`` as its import path; that file's ``args`` are an ``Application``.
"""

import asyncio
from functools import cache
from typing import Any

import msgspec

from runtime.artifact.open import open_artifact
from runtime.deploy.artifact_copies import place_artifact
from runtime.deploy.ray.predictor import assigned_cores
from runtime.errors import InputError
from runtime.inputs.image.decoder import MAX_PIXELS
from runtime.manifest import FULL_PRECISION
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth, read_token
from runtime.server.http.app import HttpApp
from runtime.server.limits import Limits
from runtime.server.served_model import ServedModel, load_verified
from runtime.server.service import Service
from runtime.verify import check_answers


class Application(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a replica: ``artifact`` is a folder on every node, or a URL, fetched once per node.

    ``sha256`` is the manifest's: a node with another version is refused. ``queue`` bounds the inputs that wait or run
    in one replica, over all of its requests.
    """

    artifact: str
    sha256: str
    precision: str = FULL_PRECISION
    device: str = "auto"
    max_pixels: int = MAX_PIXELS
    queue: int = 128
    deadline_s: float = 30.0


def build_application(args: dict[str, Any]) -> Any:
    """Return the Ray Serve application for the ``args`` of a 'serve.yaml'; raises InputError for wrong ones."""
    try:
        application = msgspec.convert(args, Application, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(
            f"serve.yaml, args: {error}. Correct the file, or write it again with: truecopy deploy ray-serve"
        ) from error
    from ray import serve

    class Model:
        """One replica."""

        async def check_health(self) -> None:
            """Raise ArtifactError where this replica's predictions no longer equal the eager model's."""
            await asyncio.to_thread(check_replica, open_model(application))

    deployment: Any = serve.deployment(serve.ingress(lambda: _open_app(application))(Model))
    return deployment.bind()


@cache
def open_model(application: Application) -> ServedModel:
    """Return the model of this process, verified with the golden inputs on this device."""
    folder = place_artifact(application.artifact, sha256=application.sha256)
    return load_verified(
        folder,
        name="",
        precision=application.precision,
        device=application.device,
        cores=assigned_cores(),
        max_pixels=application.max_pixels,
    )


@cache
def _open_app(application: Application) -> HttpApp:
    """Return the HTTP API of this process, which requires the token of TRUECOPY_TOKEN where that is set."""
    limits = Limits(pixels=application.max_pixels, queue=application.queue, deadline_s=application.deadline_s)
    service = Service([open_model(application)], limits=limits, workers=assigned_cores())
    service.ready = service.open = True
    return HttpApp(service, auth=BearerAuth(read_token(None)), log=AccessLog("none"))


def check_replica(model: ServedModel) -> None:
    """Raise ArtifactError unless the files are unchanged and the golden inputs give the exported outputs."""
    model.single_threaded.check_unchanged()
    check_answers(open_artifact(model.path), model.single_threaded)
