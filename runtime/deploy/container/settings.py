"""What holds for our server in any container: who it runs as, where it listens, what it is asked, what it may use."""

from runtime.artifact.open import Artifact

# Nobody that an image knows, and not root.
USER_ID = 10001

HTTP_PORT = 8080
GRPC_PORT = 9000
READY_PATH = "/v2/health/ready"
LIVE_PATH = "/v2/health/live"
METRICS_PATH = "/metrics"

MIB = 2**20

# Python, onnxruntime and the decoders before any model; onnxruntime's optimized copy of the weights stands beside the
# file's pages. Not measured for each model: what is written says so.
_BASE_MIB = 512
_COPIES_OF_WEIGHTS = 2


def serve_arguments(model: str) -> list[str]:
    """Return the arguments of 'truecopy' that serve ``model``, a folder or NAME=FOLDER, to those outside."""
    listen = ["--host", "0.0.0.0", "--http-port", str(HTTP_PORT), "--grpc-port", str(GRPC_PORT)]  # noqa: S104
    return ["serve", model, *listen, "--log-format", "json"]


def estimate_mib(artifact: Artifact) -> int:
    """Return the memory to ask for, in MiB; every file of the artifact is checked first.

    Raises ArtifactError for a damaged one.
    """
    for file in artifact.manifest.files:
        artifact.file(file)
    size_mib = -(-sum(file.size_bytes for file in artifact.manifest.files.values()) // MIB)
    return _BASE_MIB + _COPIES_OF_WEIGHTS * size_mib
