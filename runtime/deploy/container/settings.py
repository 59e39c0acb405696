"""Settings of the server in any container: user, ports, probes, memory."""

from runtime.artifact.open import Artifact
from runtime.manifest import FULL_PRECISION

# A user without a name in the image, and not root.
USER_ID = 10001

HTTP_PORT = 8080
GRPC_PORT = 9000
READY_PATH = "/v2/health/ready"
LIVE_PATH = "/v2/health/live"
METRICS_PATH = "/metrics"

MIB = 2**20

# Python, onnxruntime and the decoders before any model; onnxruntime's optimized copy of the weights comes on top of the
# file's pages. Not measured for each model, as the generated files say.
_BASE_MIB = 512
_COPIES_OF_WEIGHTS = 2


def serve_arguments(model: str, precision: str) -> list[str]:
    """Return the arguments of 'truecopy' that serve ``model``, a folder or NAME=FOLDER, on all interfaces."""
    chosen = [] if precision == FULL_PRECISION else ["--precision", precision]
    listen = ["--host", "0.0.0.0", "--http-port", str(HTTP_PORT), "--grpc-port", str(GRPC_PORT)]  # noqa: S104
    return ["serve", model, *chosen, *listen, "--log-format", "json"]


def estimate_mib(artifact: Artifact) -> int:
    """Return the memory to request, in MiB; every file of the artifact is checked first.

    Raises ArtifactError for a damaged one.
    """
    for file in artifact.manifest.files:
        artifact.file(file)
    size_mib = -(-sum(file.size_bytes for file in artifact.manifest.files.values()) // MIB)
    return _BASE_MIB + _COPIES_OF_WEIGHTS * size_mib
