"""Time limit of one run of golden inputs, by the artifact's size."""

import threading
from collections.abc import Callable
from typing import TypeVar

from runtime.artifact.open import Artifact
from runtime.engine.interruption import Interruption
from runtime.errors import ArtifactError, InputError

# A run of golden inputs that takes longer is taken for endless: far more than the slowest machine needs.
# Larger models are given more time.
_LEAST_LIMIT_S, _MOST_LIMIT_S = 8.0, 900.0
_BYTES_PER_S = 2**20

_Output = TypeVar("_Output")


def run_limit_s(artifact: Artifact) -> float:
    """Return how long one run of golden inputs may take."""
    size_bytes = sum(file.size_bytes for file in artifact.manifest.files.values())
    return min(_LEAST_LIMIT_S + size_bytes / _BYTES_PER_S, _MOST_LIMIT_S)


def run_within_limit(artifact: Artifact, run: Callable[[], _Output]) -> _Output:
    """Return what ``run`` gives for golden inputs, in this thread.

    Raises ArtifactError where it takes so long that it may never end.
    """
    limit_s = run_limit_s(artifact)
    # Batches of golden inputs take more than what follows: a server would keep it for good.
    with Interruption(frees_memory=True) as interruption:
        timer = threading.Timer(limit_s, interruption.interrupt)
        timer.daemon = True
        timer.start()
        try:
            return run()
        except InputError:
            if interruption.interrupted:
                raise ArtifactError(
                    f"'{artifact.path}': its graph does not end: golden inputs took over {limit_s:.0f} s. Do not use "
                    "this artifact, or check it on a faster machine."
                ) from None
            raise
        finally:
            timer.cancel()
