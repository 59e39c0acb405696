"""Ray Serve: an application module and its serve.yaml."""

from pathlib import Path

import msgspec

from runtime.artifact.open import open_artifact
from runtime.deploy.artifact_copies import artifact_digest
from runtime.deploy.deployment import Deployment
from runtime.manifest import FULL_PRECISION

_MODULE = '''"""An artifact as a Ray Serve application; in this folder: serve run serve.yaml"""

from runtime.deploy.ray import build_application

__all__ = ["build_application"]
'''

# A replica of one core works on one input; two more wait there, so that it is never idle, and the rest in the queues of
# the proxies, which send them to a free replica. Requests beyond these queues are refused at once with 429.
_CONFIGURATION = """\
# {name} on Ray Serve. In this folder: serve run serve.yaml
# Written by 'truecopy deploy ray-serve'; edit any number here.
proxy_location: EveryNode
http_options:
  host: 127.0.0.1  # 0.0.0.0 for all interfaces
  port: 8000
applications:
- name: {name}
  route_prefix: /
  import_path: application:build_application
  args:
    # Every node needs the artifact at this path. Otherwise put the URL of a copy here, such as s3://bucket/{name}: it
    # is fetched once per node. A node with another version of it is refused.
    artifact: {artifact}
    sha256: {sha256}{precision}
  deployments:
  - name: Model
    ray_actor_options:
      num_cpus: 1  # per replica; onnxruntime uses as many threads
    # Requests in a replica, and in the queue of each proxy; more get status 429 and Retry-After.
    max_ongoing_requests: 3
    max_queued_requests: 64
    backpressure_config:
      status_code: 429
      retry_after_s: 1
    autoscaling_config:
      min_replicas: 1
      max_replicas: 8
      target_ongoing_requests: 2
      upscale_delay_s: 10
      downscale_delay_s: 300
    # The golden inputs, run and compared with the eager model's outputs; a replica that fails is replaced.
    health_check_period_s: 30
    health_check_timeout_s: 60
    graceful_shutdown_timeout_s: 30
"""


def build_ray_serve(artifact: Path, out: Path, precision: str = FULL_PRECISION) -> Deployment:
    """Return ``application.py`` and ``serve.yaml`` for an artifact; ``out`` is the folder that they will be in."""
    name = open_artifact(artifact).manifest.name
    configuration = _CONFIGURATION.format(
        name=_quoted(name),
        artifact=_quoted(str(artifact.absolute())),
        sha256=artifact_digest(artifact),
        precision="" if precision == FULL_PRECISION else f"\n    precision: {precision}",
    )
    return Deployment(
        files={"application.py": _MODULE, "serve.yaml": configuration},
        next_steps=f"  cd {out} && serve run serve.yaml\n"
        f"  curl --data-binary @cat.jpg http://127.0.0.1:8000/predict/{name}",
    )


def _quoted(text: str) -> str:
    """Return text as a YAML scalar: plain where that is safe, otherwise in double quotes."""
    plain = text.replace("/", "").replace("-", "").replace("_", "").replace(".", "")
    return text if plain.isalnum() and not plain.isdigit() else msgspec.json.encode(text).decode()
