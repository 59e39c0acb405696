"""Engine of 'truecopy predict --engine ray': a job on a Ray cluster, results in the order of the inputs.

One task on the driver's node lists the inputs in parcels: pickled lists of a few dozen inputs each, whose order and
grouping Ray does not change. Actors turn parcels of inputs into parcels of results; Ray Data keeps them in order,
bounds what is in flight, and repeats what was lost with an actor or a node. Where that is not enough, the job restarts
after the rows that are written.
"""

import contextlib
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from runtime.artifact.open import open_artifact
from runtime.deploy.artifact_copies import artifact_digest
from runtime.deploy.ray.cluster import explain, open_cluster, survey_nodes, working_nodes
from runtime.engine.cpu import usable_cores
from runtime.engine.devices import DEVICES
from runtime.errors import DeviceError
from runtime.inputs.registry import is_costly_to_decode
from runtime.inputs.source import NamedInput, SourceFormat
from runtime.jobs.engines import Stop
from runtime.jobs.options import JobOptions
from runtime.jobs.sources import STDIN, read_sources
from runtime.manifest import LAYOUT
from runtime.results import Result

# Inputs per parcel: with fewer, Ray's overhead per parcel shows; with more, the first rows come late. Rows are fast.
_PARCEL_IMAGES = 64
_PARCEL_ROWS = 2048

# Cores of one actor: its threads share one copy of the weights, and Python's lock limits how many are useful.
_ACTOR_CORES = 4

# How often a job restarts without a new row in between.
_IDLE_RESTARTS = 1


class RayEngine:
    """A Ray cluster as the engine of a job; a context manager."""

    def __init__(self, request: JobOptions, source_format: SourceFormat, total: int | None) -> None:
        self._request = request
        self._source_format = source_format
        self._total = total
        self._artifact = open_artifact(request.artifact)
        self._digest = artifact_digest(request.artifact)
        self._open = contextlib.ExitStack()
        self._stdin: Path | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            if STDIN in self._request.inputs:
                self._stdin = stack.enter_context(_spooled_stdin())
            self._ray = stack.enter_context(open_cluster(self._request.address, cores=usable_cores()))
            try:
                # A cluster started here is this machine, which has the artifact.
                self._files = None if self._request.address is None else self._put_files()
                path = self._first_path()
                survey_nodes(self._ray, self._folder, sha256=self._digest, files=self._files, path=path)
            except self._ray.exceptions.RayError as error:
                raise explain(error) from error
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def _folder(self) -> Path:
        # A worker does not have the driver's working directory.
        return self._artifact.path.absolute()

    def check_unchanged(self) -> None:
        """Do nothing: actors check their files with every parcel."""

    def terminate(self) -> None:
        """Do nothing: closing the engine ends its actors."""

    def predict_each(self, inputs: Iterator[NamedInput], *, skipped: int, stop: Stop) -> Iterator[Result]:
        """Yield the result of each of the job's inputs after the first ``skipped``; the cluster lists them itself."""
        del inputs
        done = skipped
        idle = 0
        while True:
            before = done
            try:
                for results in self._results(done):
                    for result in results:
                        if stop.asked:
                            return
                        done += 1
                        yield result
                stop.exhausted = True
            except Exception as error:
                reason = explain(error)
                idle = idle + 1 if done == before else 0
                if not isinstance(reason, DeviceError) or idle > _IDLE_RESTARTS:
                    raise reason from error
                sys.stderr.write(f"warning: {reason}\nrestarting after {done} rows\n")
            else:
                return

    def _results(self, skipped: int) -> Iterator[list[Result]]:
        """Yield the results of the inputs after the first ``skipped``, parcel by parcel, in order."""
        from runtime.deploy.ray.parcels import Listing, predict_parcels

        request = self._request
        actor_cores, actors = self._actors()
        size = _PARCEL_IMAGES if is_costly_to_decode(self._artifact.manifest.inputs) else _PARCEL_ROWS
        if self._total is not None:  # a small job is shared among the actors as well
            size = max(1, min(size, math.ceil((self._total - skipped) / (4 * actors))))
        listing = Listing(
            arguments=request.inputs,
            manifest=self._artifact.manifest,
            column=request.column,
            stdin=self._stdin,
            folder=str(Path.cwd()),
            skipped=skipped,
            size=size,
        )
        options = {
            "artifact": str(self._folder),
            "sha256": self._digest,
            "files": self._files,
            "top_k": request.top_k,
            "threshold": request.threshold,
            "max_pixels": request.max_pixels,
            "precision": request.precision,
            "device": request.device,
            "threads": request.threads,
            "batch": request.batch,
            "tf32": request.tf32,
            "memory_limit_mb": request.memory_limit_mb,
        }
        gpus = 1 if _needs_gpu(request.device) else 0
        return predict_parcels(listing, options, actors=actors, actor_cores=actor_cores, actor_gpus=gpus)

    def _actors(self) -> tuple[int, int]:
        """Return the cores of an actor, and the number of actors that fit into the cluster."""
        cores = [int(node["Resources"]["CPU"]) for node in working_nodes(self._ray)]
        if not cores:
            raise DeviceError("--engine ray: no node of the cluster has a CPU. Start a node with --num-cpus 1 or more.")
        threads = self._request.threads or 1
        requested = None if self._request.workers is None else self._request.workers * threads
        actor_cores = max(threads, min(_ACTOR_CORES, *cores, *([requested] if requested else [])))
        room = sum(count // actor_cores for count in cores)
        if not room:
            raise DeviceError(
                f"--threads {threads}: more than any node has: expected at most {max(cores)}. Pass a smaller number."
            )
        return actor_cores, room if requested is None else max(1, min(room, math.ceil(requested / actor_cores)))

    def _put_files(self) -> dict[str, Any]:
        """Put the artifact's files into the object store, for nodes without them; return the references by name."""
        names = [LAYOUT.manifest, *self._artifact.manifest.files]
        return {name: self._ray.put((self._folder / name).read_bytes()) for name in names}

    def _first_path(self) -> str | None:
        """Return the first input if it is a file of this machine, which every node must then be able to read."""
        inputs = read_sources(self._request.inputs, self._source_format, column=self._request.column)
        if STDIN in self._request.inputs:
            return None
        source = next(inputs, ("", None))[1]
        return str(source.absolute()) if isinstance(source, Path) and source.exists() else None


def _needs_gpu(device: str) -> bool:
    """Return whether ``device`` is one of NVIDIA's; 'auto' and unknown ones are left to the actors."""
    known = DEVICES.get(device.partition(":")[0])
    return known is not None and known.nvidia


@contextlib.contextmanager
def _spooled_stdin() -> Iterator[Path]:
    """Yield a file with the standard input, which this process then reads as well: a cluster may need it twice."""
    before = sys.stdin
    with tempfile.NamedTemporaryFile(prefix="truecopy-stdin-") as spool:
        shutil.copyfileobj(before.buffer, spool)
        spool.flush()
        with Path(spool.name).open() as again:
            sys.stdin = again
            try:
                yield Path(spool.name)
            finally:
                sys.stdin = before
