"""The service: what the server does, whatever transport asked for it.

Everything here runs on one event loop's thread, but for the work itself, which the workers do. A request goes through
the same four steps on every front end: hold its bytes, read it, let its inputs in, wait for its jobs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from runtime.errors import InputError
from runtime.model import check_options
from runtime.results import Failure, Result
from runtime.server.admission import Admission, BodyReservation, RequestContext
from runtime.server.errors import ClientLeftError, NotFoundError, StoppingError
from runtime.server.jobs import STAGES, InferenceJob
from runtime.server.limits import Limits
from runtime.server.metrics import Metrics
from runtime.server.open_inference.requests import (
    InferRequest,
    InferResponse,
    build_response,
    check_outputs,
    sources_of,
)
from runtime.server.scheduler import Scheduler
from runtime.server.served_model import ServedModel
from runtime.server.statistics import Statistics
from runtime.server.version import VERSION

T = TypeVar("T")

# Up to this size, bodies are parsed and scores read on the event loop, in about the time that a thread would cost.
_ON_LOOP_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class InputSource:
    """One input of a prediction, as a caller named it; ``value`` may be the InputError that it costs."""

    name: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One result an input, in order, and the seconds of each stage: the longest input's."""

    model: str
    results: list[Result]
    seconds: Mapping[str, float]


class Service:
    """The models of one server, and the way to them."""

    def __init__(self, models: Sequence[ServedModel], *, limits: Limits, workers: int) -> None:
        self.models: dict[str, ServedModel] = {loaded.name: loaded for loaded in models}
        self.statistics: dict[str, Statistics] = {name: Statistics() for name in self.models}
        self.metrics = Metrics()
        self.admission = Admission(limits, workers=workers)
        self.metrics.inputs_in_flight.set_function(lambda: self.admission.inputs)
        self.metrics.body_bytes.set_function(lambda: self.admission.held_bytes)
        self.ready = self.open = False
        self._workers = Scheduler(workers)
        self._converter = ThreadPoolExecutor(1, thread_name_prefix="converter")

    @property
    def limits(self) -> Limits:
        """The numbers that bound a request."""
        return self.admission.limits

    def hold(self) -> BodyReservation:
        """Return an empty hold for a request's bytes."""
        return BodyReservation(self.admission)

    def find(self, name: str, version: str = "") -> ServedModel:
        """Return the model ``name``; raises NotFoundError for one that is not served, in any version but its own."""
        loaded = self.models.get(name)
        if loaded is None:
            known = ", ".join(f"'{model}'" for model in self.models)
            raise NotFoundError(f"model '{name}': not served here: expected {known}. Check the name.")
        if version not in {"", VERSION}:
            raise NotFoundError(
                f"model '{name}': no such version: expected '{VERSION}', got '{version}'. Leave the version out."
            )
        return loaded

    def check_admission(self, call: RequestContext) -> None:
        """Raise StoppingError or BusyError where a request would not be let in now, whatever its body turns out to be.

        A server that drains is not ready, and still open.
        """
        if not self.open:
            raise StoppingError("server: takes no requests now: it is starting or stopping. Try again later.")
        self.admission.check_room(1, call)

    async def within_deadline(self, doing: Awaitable[T], call: RequestContext) -> T:
        """Return what ``doing`` returns; raises DeadlineError when the call's deadline comes first."""
        try:
            async with asyncio.timeout(call.remaining_s()):
                return await doing
        except TimeoutError:
            raise call.late() from None

    async def convert(self, size: int, function: Callable[[], T]) -> T:
        """Return what ``function`` makes of ``size`` bytes, a body or scores; large ones keep the event loop free."""
        if size <= _ON_LOOP_BYTES:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._converter, function)

    async def predict(
        self,
        loaded: ServedModel,
        sources: Sequence[InputSource],
        call: RequestContext,
        *,
        top_k: int,
        threshold: float | None,
    ) -> Predictions:
        """Return one result an input; an input that cannot be used has a Failure in its place.

        Raises BusyError where there is no room, LateError when the answer is of no use any more.
        """
        check_options(top_k, threshold)
        with _CountedInputs(self.statistics[loaded.name]) as counted:
            jobs = await self._work(
                loaded,
                [source.value for source in sources],
                [f"'{source.name}'" for source in sources],
                call,
                prepared=False,
            )
            reading = time.monotonic()
            rows = _rows(jobs)

            def interpret(source: InputSource, scores: Any) -> Result:
                if isinstance(scores, InputError):
                    return Failure(input=source.name, error=str(scores))
                return loaded.narrow.interpret(scores, name=source.name, top_k=top_k, threshold=threshold)

            results = await self.convert(
                size_bytes(rows), lambda: [interpret(source, row) for source, row in zip(sources, rows, strict=True)]
            )
            counted.failed = all(isinstance(result, Failure) for result in results)
            counted.statistics.compute_output.add(time.monotonic() - reading)
            return Predictions(model=loaded.name, results=results, seconds=_longest(jobs))

    async def infer(self, request: InferRequest, call: RequestContext) -> tuple[InferResponse, Mapping[str, float]]:
        """Return the answer to a request of the Open Inference Protocol, and the seconds of each stage.

        Raises InputError for the first input that cannot be used: a tensor has no place for one that failed.
        """
        loaded = self.find(request.model, request.version)
        with _CountedInputs(self.statistics[loaded.name]) as counted:
            check_outputs(request, loaded.manifest)
            sources = sources_of(request, loaded.manifest)
            call.shorten(request.timeout_s)
            subjects = [f"input '{next(iter(request.inputs))}' row {row}" for row in range(len(sources.rows))]
            jobs = await self._work(loaded, sources.rows, subjects, call, prepared=sources.prepared)
            scores = _rows(jobs)
            for one in scores:
                if isinstance(one, InputError):
                    raise one
            reading = time.monotonic()
            answer = await self.convert(
                size_bytes(scores), lambda: build_response(request, scores, loaded.manifest, loaded.narrow.labels)
            )
            counted.statistics.compute_output.add(time.monotonic() - reading)
            return answer, _longest(jobs)

    async def cancel_on_disconnect(self, answer: Awaitable[T], left: Awaitable[object], call: RequestContext) -> T:
        """Return ``answer``, unless ``left`` ends first: then drop the call's work and raise ClientLeftError."""
        answering = asyncio.current_task()
        assert answering is not None, "a request is answered in a task"

        def leave(leaving: asyncio.Future[object]) -> None:
            if not leaving.cancelled():
                self.cancel(call)
                answering.cancel()

        leaving = asyncio.ensure_future(left)
        leaving.add_done_callback(leave)
        try:
            return await answer
        except asyncio.CancelledError:
            if not call.left:
                raise
            answering.uncancel()
            raise ClientLeftError("request: the client left before its answer was ready. Nothing to do.") from None
        finally:
            leaving.remove_done_callback(leave)
            leaving.cancel()

    def cancel(self, call: RequestContext) -> None:
        """Drop the work of a call whose answer nobody waits for."""
        call.left = True
        self._workers.drop(call)

    def text_of_metrics(self) -> bytes:
        """Return the page that Prometheus reads."""
        return self.metrics.to_text(self.statistics, self._workers.waiting)

    def swap(self, loaded: ServedModel) -> None:
        """Serve ``loaded`` from the next request on; running requests finish on the one they began with."""
        self.models[loaded.name] = loaded

    async def drained(self) -> None:
        """Return when no input waits or runs."""
        while self.admission.inputs:
            await asyncio.sleep(0.01)

    def close(self, *, within_s: float = 10.0) -> None:
        """Take no more, and end the threads when they have finished what is queued, or after ``within_s`` seconds."""
        self.ready = self.open = False
        self._workers.close(within_s=within_s)
        self._converter.shutdown(wait=False, cancel_futures=True)

    async def _work(
        self,
        loaded: ServedModel,
        values: Sequence[Any],
        subjects: Sequence[str],
        call: RequestContext,
        *,
        prepared: bool,
    ) -> list[InferenceJob]:
        """Return a job for each value, done; raises BusyError at the door, DeadlineError when they take too long."""
        call.check()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        jobs: list[InferenceJob] = []
        open_jobs = 0

        def finish(job: InferenceJob) -> None:
            nonlocal open_jobs
            open_jobs -= 1
            self._leave(loaded, job)
            if open_jobs == 0 and not done.done():
                done.set_result(None)

        def finished(job: InferenceJob) -> None:
            loop.call_soon_threadsafe(finish, job)

        size = loaded.rows_per_job
        starts = range(0, len(values), size)
        open_jobs = len(starts)
        self.admission.enter(len(starts), call)
        jobs = [
            InferenceJob(
                loaded,
                values[start : start + size],
                call=call,
                subjects=subjects[start : start + size],
                prepared=prepared,
                finished=finished,
            )
            for start in starts
        ]
        self._workers.put(jobs)
        try:
            async with asyncio.timeout(call.remaining_s()):
                await done
        except TimeoutError:
            self.cancel(call)
            raise call.late() from None
        failed = next((job.error for job in jobs if job.error is not None), None)
        if failed is not None:
            raise failed
        return jobs

    def _leave(self, loaded: ServedModel, job: InferenceJob) -> None:
        worked = job.batch > 0 and job.error is None
        shared = job.batch if len(job.results) == 1 else 1
        busy_s = job.seconds["decode"] + job.seconds["geometry"] + job.seconds["network"] / max(1, shared)
        self.admission.leave(1, busy_s if worked else 0.0)
        if worked:
            answered = sum(not isinstance(result, InputError) for result in job.results)
            self.statistics[loaded.name].add_job(job.seconds, batch=job.batch, inputs=answered)
            self.metrics.add_job(loaded.name, job.seconds, batch=job.batch)


class _CountedInputs:
    """Counts a request as a success or a failure of its model, with its time."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        self.failed = False

    def __enter__(self) -> "_CountedInputs":
        self._started = time.monotonic()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        outcome = self.statistics.fail if self.failed or kind is not None else self.statistics.success
        outcome.add(time.monotonic() - self._started)


def size_bytes(values: Any) -> int:
    """Return how many bytes of arrays there are in lists and dictionaries of them."""
    if isinstance(values, dict):
        return sum(map(size_bytes, values.values()))
    if isinstance(values, list | tuple):
        return sum(map(size_bytes, values))
    return int(getattr(values, "nbytes", 0))


def _rows(jobs: Sequence[InferenceJob]) -> list[Any]:
    """Return the scores or the InputError of each input, over all jobs of a request."""
    return [result for job in jobs for result in job.results]


def _longest(jobs: Sequence[InferenceJob]) -> dict[str, float]:
    return {stage: max(job.seconds[stage] for job in jobs) for stage in STAGES}
