"""Engines that run a job: this process, or a cluster, with equal results."""

import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Protocol, Self, TypeVar

from runtime.artifact.golden import read_golden
from runtime.artifact.limits import run_limit_s, run_within_limit
from runtime.artifact.open import Artifact, open_artifact
from runtime.errors import ArtifactError, InputError, TruecopyError
from runtime.inputs.source import NamedInput, SourceFormat
from runtime.jobs.options import JobOptions
from runtime.jobs.urls import fetch_each
from runtime.model import Model, load
from runtime.results import Result

# By the name that --engine takes: the function that opens it, imported at first use.
ENGINES = {"local": "runtime.jobs.engines:open_local", "ray": "runtime.deploy.ray.job:RayEngine"}


_T = TypeVar("_T")


class Interrupted(KeyboardInterrupt):
    """A signal ended the wait for the next result."""


class Stop:
    """A request to finish the inputs in flight and take no more.

    ``waiting`` says that the main thread waits for a result, where a signal handler may raise Interrupted: everywhere
    else a row is being written.
    """

    def __init__(self) -> None:
        self.asked = False
        self.exhausted = False
        self.waiting = False
        self._abandoned = False

    def ask(self) -> None:
        """Request the stop; further calls change nothing."""
        self.asked = True

    def until(self, inputs: Iterator[NamedInput]) -> Iterator[NamedInput]:
        """Yield the inputs until asked to stop; ``exhausted`` tells whether these were all."""
        while not self.asked:
            named = next(inputs, None)
            if named is None:
                self.exhausted = True
                return
            yield named

    def each(self, results: Iterator[_T]) -> Iterator[_T]:
        """Yield results as they come, until ``abandon``: what follows it is no result, and the inputs have no end."""
        while not self._abandoned:
            try:
                self.waiting = True
                result = next(results)
            except (StopIteration, Interrupted):
                break
            finally:
                self.waiting = False
            if not self._abandoned:
                yield result
        if self._abandoned:
            self.exhausted = False

    def abandon(self) -> None:
        """End ``each``; raises Interrupted, for a signal handler, where it waits."""
        self._abandoned = True
        if self.waiting:
            self.waiting = False
            raise Interrupted


class Engine(Protocol):
    """Interface of an engine; used in a ``with``, whose end stops everything that the engine started."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def predict_each(self, inputs: Iterator[NamedInput], *, skipped: int, stop: Stop) -> Iterator[Result]:
        """Yield the result of each of ``inputs``, in order; ``skipped`` of the job's inputs came before these.

        Ends early when asked to stop; ``stop.exhausted`` tells whether these were all.
        """

    def check_unchanged(self) -> None:
        """Raise ArtifactError if a file of the artifact has been changed since it was loaded."""

    def terminate(self) -> None:
        """End the runs in progress as soon as possible."""


class _Probe:
    """Looks whether the graph ends on a golden input, where the first result of a job takes very long.

    A single input may take any time that is in proportion to its size; a graph that never ends is the artifact's fault.
    """

    def __init__(self, model: Model, artifact: Artifact) -> None:
        self._model = model
        self._artifact = artifact
        self._fault: ArtifactError | None = None

    def watch(self, results: Iterator[Result]) -> Iterator[Result]:
        """Yield the results. Raises ArtifactError where none can come, as a golden input takes too long."""
        timer = threading.Timer(run_limit_s(self._artifact) / 2, self._run)
        timer.daemon = True
        timer.start()
        try:
            for result in results:
                timer.cancel()
                if self._fault is not None:
                    raise self._fault
                yield result
        finally:
            timer.cancel()

    def _run(self) -> None:
        try:
            case = read_golden(self._artifact.file(self._artifact.manifest.golden.file)).cases[0]
        except TruecopyError:  # 'truecopy verify' says so
            return
        try:
            run_within_limit(self._artifact, lambda: self._model.run(case.prepared))
        except ArtifactError as error:
            self._fault = error
            self._model.terminate()
        except TruecopyError:  # the job has ended meanwhile, or its own rows say what is wrong
            return


class LocalEngine:
    """This process, with all workers of a plan; of an ``artifact`` whose graph never ends, no result is waited for."""

    def __init__(
        self, model: Model, *, artifact: Artifact | None = None, top_k: int = 5, threshold: float | None = None
    ) -> None:
        self.model = model
        self._artifact = artifact
        self._top_k = top_k
        self._threshold = threshold

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.model.close()

    def predict_each(self, inputs: Iterator[NamedInput], *, skipped: int, stop: Stop) -> Iterator[Result]:  # noqa: ARG002
        """Yield the result of each input, in order."""
        fetched = fetch_each(stop.until(inputs))
        results = self.model.predict_each(fetched, top_k=self._top_k, threshold=self._threshold)
        return results if self._artifact is None else _Probe(self.model, self._artifact).watch(results)

    def check_unchanged(self) -> None:
        """Raise ArtifactError if a file of the artifact has been changed since it was loaded."""
        self.model.check_unchanged()

    def terminate(self) -> None:
        """End the runs in progress as soon as possible."""
        self.model.terminate()


def open_local(request: JobOptions, source_format: SourceFormat, total: int | None) -> LocalEngine:
    """Return this process as the engine of a job of ``total`` inputs, where that is known."""
    del source_format  # the command has read it
    model = load(
        request.artifact,
        precision=request.precision,
        device=request.device,
        plan="latency" if total == 1 else "throughput",
        workers=request.workers,
        threads=request.threads,
        batch=request.batch,
        max_pixels=request.max_pixels,
        tf32=request.tf32,
        memory_limit_mb=request.memory_limit_mb,
    )
    return LocalEngine(
        model, artifact=open_artifact(request.artifact), top_k=request.top_k, threshold=request.threshold
    )


def open_engine(request: JobOptions, source_format: SourceFormat, total: int | None) -> Engine:
    """Return the engine that was asked for; raises InputError for one that is not known."""
    if request.engine not in ENGINES:
        known = " or ".join(f"'{name}'" for name in ENGINES)
        raise InputError(f"engine '{request.engine}': unknown: expected {known}. Name one of these.")
    if request.address is not None and request.engine == "local":
        raise InputError(
            f"--address '{request.address}': no cluster for it: expected --engine ray, got 'local'. Name the engine."
        )
    module, _, name = ENGINES[request.engine].partition(":")
    engine: Engine = getattr(import_module(module), name)(request, source_format, total)
    return engine
