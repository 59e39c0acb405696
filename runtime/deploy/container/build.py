"""Build context of a container image: Dockerfile, lock, bill of materials, artifact."""

import hashlib
from pathlib import Path

import msgspec

from runtime.artifact.open import Artifact, open_artifact
from runtime.deploy.artifact_copies import artifact_digest
from runtime.deploy.container.lock import LockedFor, direct_requirements, read_lock
from runtime.deploy.container.sbom import build_sbom
from runtime.deploy.container.settings import GRPC_PORT, HTTP_PORT, READY_PATH, USER_ID, estimate_mib, serve_arguments
from runtime.deploy.container.wheel import build_wheel
from runtime.deploy.deployment import Deployment
from runtime.deploy.kserve import to_kubernetes_name
from runtime.inputs.registry import extras_of
from runtime.manifest import FULL_PRECISION, LAYOUT

_DOCKERFILE = """\
# '{name}' and its server. Written by 'truecopy deploy container'.
#   docker build --build-arg BASE=python:{python}-slim@sha256:... --tag {image} .
# Choose BASE: an image with Python {pythons}, venv and glibc, by its digest, which
# 'docker buildx imagetools inspect python:{python}-slim' prints.
ARG BASE

FROM ${{BASE}} AS build
ARG BASE
RUN case "${{BASE}}" in \\
        *@sha256:*) ;; \\
        *) echo "BASE '${{BASE}}': not pinned: expected IMAGE@sha256:DIGEST. Pass --build-arg." >&2; exit 1 ;; \\
    esac
COPY requirements.lock {wheel} /opt/build/
WORKDIR /opt/build
RUN python3 -m venv /opt/truecopy
RUN /opt/truecopy/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes \\
        --only-binary=:all: --requirement requirements.lock
RUN /opt/truecopy/bin/python -m pip uninstall --yes pip
COPY artifact /opt/artifact
RUN chmod -R a+rX /opt/truecopy /opt/artifact
# Every file by its hash, then the golden inputs: the build fails where predictions differ from the eager model's.
RUN /opt/truecopy/bin/truecopy verify /opt/artifact

FROM ${{BASE}}
COPY --from=build /opt/truecopy /opt/truecopy
COPY --from=build /opt/artifact /opt/artifact
ENV PATH="/opt/truecopy/bin:${{PATH}}" HOME=/tmp PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
USER {user}:{user}
EXPOSE {http_port} {grpc_port}
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD {health}
ENTRYPOINT ["truecopy"]
CMD {arguments}
"""

_HEALTH = "import urllib.request as r; r.urlopen('http://127.0.0.1:{port}{path}', timeout=4)"

_COMPOSE = """\
# '{name}', reachable from this machine only. Written by 'truecopy deploy container'; edit any number here.
#   BASE=python:{python}-slim@sha256:... docker compose up --build
services:
  {image}:
    image: {image}
    build:
      context: .
      args:
        BASE: ${{BASE:?the base image, as IMAGE@sha256:DIGEST}}
    ports:
    - 127.0.0.1:{http_port}:{http_port}
    - 127.0.0.1:{grpc_port}:{grpc_port}
    user: "{user}:{user}"
    read_only: true
    tmpfs:
    - /tmp
    cap_drop:
    - ALL
    security_opt:
    - no-new-privileges:true
    pids_limit: 256
    cpus: 2
    # An estimate from the size of the artifact's files, not a measurement: monitor it.
    mem_limit: {limit_mib}m
    # The server finishes accepted requests within 30 s.
    stop_grace_period: 40s
    restart: unless-stopped
"""


def build_container(artifact: Path, out: Path, precision: str = FULL_PRECISION) -> Deployment:
    """Return ``Dockerfile``, ``compose.yaml``, ``requirements.lock``, ``sbom.json``, this truecopy and the artifact.

    Every file of the artifact is checked first. The user chooses the base image, by its digest.
    """
    opened = open_artifact(artifact)
    limit_mib = 2 * estimate_mib(opened)
    lock = read_lock()
    locked_for = lock.locked_for
    extras = _extras(opened)
    packages = lock.select(extras)
    wheel, wheel_bytes = build_wheel()
    name = opened.manifest.name
    facts = {
        "name": name.replace("\n", " "),
        "image": to_kubernetes_name(name),
        "python": locked_for.pythons[1],
        "user": USER_ID,
        "http_port": HTTP_PORT,
        "grpc_port": GRPC_PORT,
    }
    dockerfile = _DOCKERFILE.format(
        **facts,
        pythons=f"{locked_for.pythons[0]} to {locked_for.pythons[-1]}",
        wheel=wheel,
        health=_words("python", "-c", _HEALTH.format(port=HTTP_PORT, path=READY_PATH)),
        arguments=_words(*serve_arguments(f"{name}=/opt/artifact", precision)),
    )
    ours = f"./{wheel} --hash=sha256:{hashlib.sha256(wheel_bytes).hexdigest()}"
    return Deployment(
        files={
            "Dockerfile": dockerfile,
            "compose.yaml": _COMPOSE.format(**facts, limit_mib=limit_mib),
            "requirements.lock": "".join(
                f"{line}\n" for line in [_about(locked_for), *(package.to_requirement() for package in packages), ours]
            ),
            "sbom.json": build_sbom(
                opened.manifest,
                digest=artifact_digest(artifact),
                wheel=wheel,
                wheel_bytes=wheel_bytes,
                packages=packages,
                direct=direct_requirements(extras),
            ),
            wheel: wheel_bytes,
            **{f"artifact/{file}": opened.path / file for file in (LAYOUT.manifest, *opened.manifest.files)},
        },
        next_steps=f"  docker buildx imagetools inspect python:{facts['python']}-slim     # its digest\n"
        f"  docker build --build-arg BASE=python:{facts['python']}-slim@sha256:... "
        f"--tag {facts['image']} {out}\n"
        f"  docker run --read-only --tmpfs /tmp --publish 127.0.0.1:{HTTP_PORT}:{HTTP_PORT} {facts['image']}",
    )


def _extras(artifact: Artifact) -> list[str]:
    """Return the extras that this artifact's server needs."""
    return ["cpu", "serve", *extras_of(artifact.manifest.inputs)]


def _about(locked_for: LockedFor) -> str:
    return f"# Wheels for Python {', '.join(locked_for.pythons)} on Linux, {' and '.join(locked_for.machines)}."


def _words(*words: str) -> str:
    return msgspec.json.encode(words).decode()
