"""Origin of a parity report: artifact, checkpoint, date and command."""

import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from runtime.artifact.open import open_artifact
from runtime.errors import ArtifactError


def describe_origin(artifact: Path, command: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the architecture and the hashes of an artifact, and the command of its check, by name.

    The date is that of SOURCE_DATE_EPOCH, in seconds since 1970, where the environment has it: a report of the same
    check then stays the same. An artifact that cannot be read has its folder alone.
    """
    origin = [("artifact", str(artifact))]
    try:
        opened = open_artifact(artifact)
    except ArtifactError:
        pass  # the reason is in the evidence
    else:
        source = opened.manifest.source
        origin += [
            ("manifest SHA-256", opened.digest),
            ("architecture", source.architecture),
            ("checkpoint SHA-256", source.checkpoint_sha256),
        ]
        versions = opened.manifest.onnx
        origin += [("ONNX", versions.describe())] if versions is not None else []
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    if seconds.isdecimal():
        origin.append(("date", datetime.fromtimestamp(int(seconds), UTC).isoformat()))
    return (*origin, ("command", shlex.join(command)))
