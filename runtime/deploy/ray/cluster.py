"""Ray cluster of one job: started here or connected to, surveyed, and left again."""

import contextlib
import logging
import os
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runtime.engine.cpu import memory_bytes
from runtime.errors import ArtifactError, DeviceError, InputError, ModelError, TruecopyError

_INSTALL = "Run: pip install 'truecopy[ray,cpu]'"

# How long a cluster may take to respond, and its nodes to start a first process each, before the job fails.
_CONNECT_TIMEOUT_S = 10
_SURVEY_TIMEOUT_S = 120

# Memory for blocks in flight between the processes of this machine; Ray's own default is 30% of the memory.
_OBJECT_STORE_BYTES = 512 * 2**20
_SMALLEST_OBJECT_STORE_BYTES = 80 * 2**20

# The private function that prints the cluster's events to stdout, as of Ray 2.50 to 2.60.
_EVENT_PRINTER = "print_to_stdstream"

# Ray's error classes, the problem in words, and the fix.
_REASONS = (
    ("OutOfMemoryError", "a worker ran out of memory", "Use fewer --workers, smaller inputs, or larger nodes."),
    ("ObjectStoreFullError", "the object store is full", "Give the nodes more --object-store-memory, or a --batch."),
    ("OutOfDiskError", "the object store is full, and so is the disk it spills to", "Free space on the nodes."),
    ("RuntimeEnvSetupError", "a worker's environment could not be set up", "Look at the cluster's runtime_env."),
    ("ModuleNotFoundError", "a worker lacks a module", f"On every node: {_INSTALL}"),
    ("ActorUnschedulableError", "no node can take a worker", "Pass fewer --workers or --threads."),
    ("ActorUnavailableError", "a worker cannot be reached", "See its state with: ray status"),
    ("NodeDiedError", "a node was lost", "See the state of the cluster with: ray status"),
    ("ActorDiedError", "a worker died", "Ray's logs on its node say why, as when memory runs out."),
    ("WorkerCrashedError", "a worker died", "Ray's logs on its node say why, as when memory runs out."),
    ("ObjectLostError", "a node was lost with its data", "See the state of the cluster with: ray status"),
    ("RaySystemError", "the cluster is gone", "Start it again."),
)


def import_ray() -> Any:
    """Return ray, quiet and without telemetry; raises InputError, with the command, where it is not installed."""
    # Read when ray is imported, and by what it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_py_gcs_connect_timeout_s", str(_CONNECT_TIMEOUT_S))
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    # Ray warns of options that it sets itself.
    warnings.filterwarnings("ignore", module=r"ray\.")
    warnings.filterwarnings("ignore", message=".*(is|are) deprecated", category=DeprecationWarning)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(f"--engine ray: Ray is not installed. {_INSTALL}") from error
    _silence_events(ray)
    from ray.data._internal.logging import configure_logging

    configure_logging()  # otherwise its first use would undo the next line
    logging.getLogger("ray").setLevel(logging.CRITICAL + 1)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL + 1)
    return ray


def _silence_events(ray: Any) -> None:
    """Keep Ray's reports of lost nodes and workers off stdout, where the rows go.

    Ray, up to the pinned 2.x, has no option for it: this replaces ``ray._private.worker.print_to_stdstream``. Raises
    InputError for a Ray without that function, whose reports would end up among the rows.
    """
    worker = ray._private.worker
    if not hasattr(worker, _EVENT_PRINTER):
        raise InputError(
            f"--engine ray: Ray {ray.__version__} has no '{worker.__name__}.{_EVENT_PRINTER}'. Install an older one: "
            "pip install 'ray[data,serve]==2.60.0'"
        )
    setattr(worker, _EVENT_PRINTER, lambda *_, **__: None)


@contextlib.contextmanager
def open_cluster(address: str | None, *, cores: int) -> Iterator[Any]:
    """Yield ray, connected to the cluster at ``address`` (``HOST:PORT`` or ``auto``), or to one started here.

    What was started here, on the loopback address with ``cores``, is stopped at the end, and its files are removed.
    Raises DeviceError, within seconds, where there is no cluster.
    """
    if address is None:
        # Ray's switch for machines without clusters of several nodes: Ray stays on the loopback address.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray = import_ray()
    quiet = {"log_to_driver": False, "logging_level": "CRITICAL"}
    folder = None
    stack = contextlib.ExitStack()
    stack.enter_context(_native_messages_dropped())
    try:
        if address is None:
            folder = Path(tempfile.mkdtemp(prefix="truecopy-ray-", dir=_short_folder()))
            try:
                ray.init(
                    address="local",
                    num_cpus=cores,
                    object_store_memory=_object_store_bytes(),
                    include_dashboard=False,
                    _temp_dir=str(folder),
                    **quiet,
                )
            except Exception as error:  # Ray raises a plain exception where a node starts too late
                raise _not_started(error) from error
        else:
            _check_reachable(address)
            try:
                ray.init(address=address, **quiet)
            except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
                raise _unreachable(address, error) from error
        yield ray
    finally:
        with stack:
            ray.shutdown()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def survey_nodes(ray: Any, artifact: Path, *, sha256: str, files: Mapping[str, Any] | None, path: str | None) -> None:
    """Check that every node has truecopy, this artifact, and the first input, ``path``, if it is a file.

    Raises DeviceError for a node without truecopy, ArtifactError for one with another version of the artifact,
    InputError for one that cannot read the inputs: before any work is done.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=2)(_build_survey())
    address_of = {}
    for node in working_nodes(ray):
        here = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        answer = task.options(scheduling_strategy=here).remote(str(artifact), sha256, dict(files or {}), path)
        address_of[answer] = node["NodeManagerAddress"]
    done, waiting = ray.wait(list(address_of), num_returns=len(address_of), timeout=_SURVEY_TIMEOUT_S)
    if waiting:
        raise DeviceError(
            f"node '{address_of[waiting[0]]}': no process started within {_SURVEY_TIMEOUT_S} s. "
            "See its state with: ray status"
        )
    for answer in done:
        try:
            kind, message = ray.get(answer)
        except ray.exceptions.TaskUnschedulableError:  # a node that was lost a moment ago
            continue
        except ray.exceptions.RayError as error:
            raise explain(error) from error
        if kind is not None:
            errors: dict[str, type[TruecopyError]] = {"artifact": ArtifactError, "input": InputError}
            raise errors.get(kind, DeviceError)(message.replace("NODE", f"node '{address_of[answer]}'"))


def working_nodes(ray: Any) -> list[dict[str, Any]]:
    """Return Ray's descriptions of the nodes that have cores to work with."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def explain(error: BaseException) -> TruecopyError:
    """Return a failure within the cluster as one sentence; errors of ours are returned as they are."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, TruecopyError):
            takes_message = type(cause).__init__ in {Exception.__init__, InputError.__init__, ArtifactError.__init__}
            return type(cause)(str(cause)) if takes_message else ModelError(str(cause))
    text = " ".join(f"{type(cause).__name__} {cause}" for cause in chain)
    for name, problem, fix in _REASONS:
        if name in text:
            return DeviceError(f"--engine ray: {problem}, which stopped the run. {fix}")
    first = str(chain[-1]).strip().splitlines() or [type(error).__name__]
    return DeviceError(f"--engine ray: the cluster failed: {first[-1]}. Ray's logs on its nodes say more.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        cause = todo.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        todo += [getattr(cause, "cause", None), cause.__cause__, cause.__context__]


def _build_survey() -> Callable[..., tuple[str | None, str]]:
    """Return the function that runs on every node; it is sent by value, as the node may not have this module."""

    def survey(artifact: str, sha256: str, files: dict[str, Any], path: str | None) -> tuple[str | None, str]:
        import importlib
        import os

        try:
            place_artifact = importlib.import_module("runtime.deploy.artifact_copies").place_artifact
            for name in ("onnxruntime", "pyarrow", "runtime.deploy.ray.job"):
                importlib.import_module(name)
        except ImportError as error:
            return "node", (
                f"NODE: truecopy with its extra 'ray' is not installed: {error}. "
                "Run there: pip install 'truecopy[ray,cpu]'"
            )
        try:
            place_artifact(artifact, sha256=sha256, files=files or None)
        except Exception as error:
            return "artifact", str(error)
        if path is not None and not os.path.exists(path):  # noqa: PTH110 - as the driver's own path
            return "input", (
                f"NODE: cannot read '{path}': every node has to read the inputs. "
                "Put them on a shared folder, or pass their URL, such as s3://bucket/folder."
            )
        return None, ""

    return survey


@contextlib.contextmanager
def _native_messages_dropped() -> Iterator[None]:
    """Drop what Ray's native threads write to the file descriptor of stderr; Python's own stderr still works."""
    before = sys.stderr
    before.flush()
    kept = os.dup(2)
    with open(kept, "w", buffering=1, encoding=before.encoding, errors=before.errors) as stderr:  # noqa: PTH123
        sys.stderr = stderr
        with open(os.devnull, "w") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            sys.stderr = before


def _check_reachable(address: str) -> None:
    """Raise DeviceError unless a process listens at ``address``; Ray resolves 'auto' itself."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise InputError(
            f"--address '{address}': not an address: expected HOST:PORT of a cluster's head node, or auto. "
            "See it with: ray status"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _not_started(error: BaseException) -> DeviceError:
    return DeviceError(
        f"--engine ray: Ray does not start on this machine: {_first_line(error)}. Try again "
        "when the machine is less busy, or omit --engine."
    )


def _unreachable(address: str, error: BaseException) -> DeviceError:
    reason = _first_line(error)
    return DeviceError(
        f"--address '{address}': no Ray cluster responds: {reason}. "
        "Check the address, or omit it to use this machine alone."
    )


def _object_store_bytes() -> int:
    """Return the size of Ray's object store here: at most a tenth of the free memory."""
    free = memory_bytes() or 10 * _OBJECT_STORE_BYTES
    return max(_SMALLEST_OBJECT_STORE_BYTES, min(_OBJECT_STORE_BYTES, free // 10))


def _short_folder() -> str | None:
    """Return the parent folder of Ray's sockets, whose paths may have at most 107 bytes."""
    return "/tmp" if len(tempfile.gettempdir()) > 30 else None  # noqa: S108 - mkdtemp creates a private folder in it


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
