"""The service behind both APIs, independent of the transport.

Everything here runs on one event loop's thread, except the inference itself, which the scheduler's threads do. A
request takes the same four steps on every front end: reserve its bytes, read it, admit its jobs, wait for its jobs.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from runtime.errors import InputError
from runtime.outputs.precision import precision_of
from runtime.results import Failure, Result, check_options
from runtime.server.admission import Admission, BodyReservation
from runtime.server.context import RequestContext
from runtime.server.decoding import decode
from runtime.server.errors import ClientLeftError, NotFoundError, StoppingError, message_of
from runtime.server.jobs import STAGES, InferenceJob, InputResult, InputSource, Scores
from runtime.server.limits import Limits
from runtime.server.metrics import Metrics
from runtime.server.open_inference.claims import TensorClaims
from runtime.server.open_inference.requests import (
    InferRequest,
    InferResponse,
    build_response,
    check_outputs,
    to_sources,
)
from runtime.server.payloads import input_specs
from runtime.server.scheduler import Scheduler
from runtime.server.served_model import ServedModel
from runtime.server.statistics import Statistics
from runtime.server.version import MODEL_VERSION

T = TypeVar("T")

# Up to this size, bodies are parsed and scores interpreted on the event loop: a thread switch costs about as much.
_ON_LOOP_BYTES = 16 * 1024

# From then on a request's client is watched for its disconnection.
_WATCHED_AFTER_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One result per input, in order; ``seconds`` has the longest time that an input spent in each stage."""

    model: str
    results: list[Result]
    seconds: Mapping[str, float]


class Service:
    """The served models, and the way of a request through admission, scheduler and interpretation."""

    def __init__(self, models: Sequence[ServedModel], *, limits: Limits, workers: int) -> None:
        self.models: dict[str, ServedModel] = {model.name: model for model in models}
        self.statistics: dict[str, Statistics] = {name: Statistics() for name in self.models}
        self.metrics = Metrics()
        self.admission = Admission(limits, workers=workers)
        self.metrics.inputs_in_flight.set_function(lambda: self.admission.runs)
        self.metrics.body_bytes.set_function(lambda: self.admission.held_bytes)
        self.ready = self.open = False
        self._scheduler = Scheduler(workers)
        self._converting = False
        self._converter = ThreadPoolExecutor(1, thread_name_prefix="converter")

    @property
    def limits(self) -> Limits:
        """The limits of a request, and of all requests together."""
        return self.admission.limits

    def reserve_body(self) -> BodyReservation:
        """Return an empty reservation for a request's bytes."""
        return BodyReservation(self.admission)

    def find(self, name: str, version: str = "") -> ServedModel:
        """Return the model ``name``; raises NotFoundError for an unknown model or version."""
        model = self.models.get(name)
        if model is None:
            names = ", ".join(f"'{known}'" for known in self.models)
            raise NotFoundError(f"model '{name[:200]}': not served here: expected {names}. Check the name.")
        if version not in {"", MODEL_VERSION}:
            raise NotFoundError(
                f"model '{name}': no such version: expected '{MODEL_VERSION}', got '{version[:40]}'. Omit the version."
            )
        return model

    def only_model(self) -> ServedModel:
        """Return the served model; raises NotFoundError where there are several, and the path names none."""
        if len(self.models) > 1:
            raise NotFoundError(
                "'/invocations': which model? expected a server of one model, got several: "
                f"{', '.join(map(repr, self.models))}. Use '/predict/' with a model's name."
            )
        return next(iter(self.models.values()))

    def check_admission(self, context: RequestContext) -> None:
        """Raise StoppingError or BusyError where a request would not be admitted now, whatever its body contains.

        A server that drains is not ready, and still open.
        """
        if not self.open:
            raise StoppingError("server: not accepting requests: it is starting or stopping. Try again later.")
        self.admission.check_capacity(1, context)

    async def within_deadline(self, awaitable: Awaitable[T], context: RequestContext) -> T:
        """Return the result of ``awaitable``; raises DeadlineError when the request's deadline comes first."""
        try:
            async with asyncio.timeout(context.remaining_s()):
                return await awaitable
        except TimeoutError:
            raise context.deadline_error() from None

    async def convert(self, size_bytes: int, function: Callable[[], T]) -> T:
        """Return the result of ``function``, which processes ``size_bytes``; large data keeps the event loop free."""
        if size_bytes <= _ON_LOOP_BYTES:
            return function()

        def run() -> T:
            self._converting = True
            # Hundreds of thousands of new lists would be searched for cycles, under Python's lock: three quarters of
            # the time that parsing them takes.
            gc.disable()
            try:
                return function()
            finally:
                gc.enable()
                self._converting = False

        # No local variable holds the future: its error would hold this frame, and with it the request's body.
        return await asyncio.get_running_loop().run_in_executor(self._converter, run)

    async def decode(self, size_bytes: int, function: Callable[[], T], subject: str) -> T:
        """Return the result of ``function``, which decodes what a client sent, as ``convert`` does.

        Whatever it raises is the client's error, with ``subject`` as the name of what was sent.
        """
        return await self.convert(size_bytes, lambda: decode(function, subject))

    def tensor_claims(self, model: ServedModel, reservation: BodyReservation) -> TensorClaims:
        """Return what checks the tensors that a request claims for ``model``, before they are made."""
        return TensorClaims(
            names=[spec.name for spec in input_specs(model.manifest)],
            check_rows=lambda rows: self.admission.check_inputs(rows, model.inputs_per_job),
            reserve=reservation.extend,
        )

    async def predict(
        self,
        model: ServedModel,
        sources: Sequence[InputSource],
        context: RequestContext,
        *,
        top_k: int,
        threshold: float | None,
    ) -> Predictions:
        """Return one result per input; the result of an input that cannot be used is a Failure.

        Raises BusyError where the queue is full, LateError when the response is of no use any more.
        """
        check_options(top_k, threshold, model.single_threaded.precision)

        def interpret(source: InputSource, result: InputResult) -> Result:
            if isinstance(result, InputError):
                return Failure(input=source.name, error=message_of(result))
            return model.single_threaded.interpret(result.value, name=source.name, top_k=top_k, threshold=threshold)

        with _OutcomeCounter(self.statistics[model.name]) as counter:
            jobs = await self._run_jobs(model, sources, context)
            started = time.monotonic()
            scores = _input_results(jobs)
            results = await self.convert(
                _scores_bytes(scores), lambda: [interpret(*pair) for pair in zip(sources, scores, strict=True)]
            )
            counter.failed = all(isinstance(result, Failure) for result in results)
            counter.statistics.compute_output.add(time.monotonic() - started)
            return Predictions(model=model.name, results=results, seconds=_longest_stages(jobs))

    async def infer(self, request: InferRequest, context: RequestContext) -> tuple[InferResponse, Mapping[str, float]]:
        """Return the response to a request of the Open Inference Protocol, and the seconds of each stage.

        Raises InputError for the first input that cannot be used: a tensor has no row for one that failed.
        """
        model = self.find(request.model, request.version)
        with _OutcomeCounter(self.statistics[model.name]) as counter:
            check_outputs(request, model.manifest)
            sources = await self.decode(
                size_bytes(request.inputs), lambda: to_sources(request, model.manifest), "inputs"
            )
            context.shorten(request.timeout_s)
            jobs = await self._run_jobs(model, sources, context)
            rows = _rows(jobs)
            started = time.monotonic()
            response = await self.convert(
                size_bytes(rows), lambda: build_response(request, rows, model.manifest, model.single_threaded.labels)
            )
            counter.statistics.compute_output.add(time.monotonic() - started)
            return response, _longest_stages(jobs)

    async def cancel_on_disconnect(
        self, response: Awaitable[T], wait_for_disconnect: Callable[[], Awaitable[object]], context: RequestContext
    ) -> T:
        """Return ``response``, unless the client leaves first: then drop its work and raise ClientLeftError.

        Clients of short requests are not watched: a task for each would cost more than what they may leave behind.
        """
        task = asyncio.current_task()
        assert task is not None, "a request runs in a task"
        watcher: asyncio.Future[object] | None = None

        def watch() -> None:
            nonlocal watcher
            watcher = asyncio.ensure_future(wait_for_disconnect())
            watcher.add_done_callback(on_disconnect)

        def on_disconnect(future: asyncio.Future[object]) -> None:
            if not future.cancelled():
                self.cancel(context)
                task.cancel()

        timer = asyncio.get_running_loop().call_later(_WATCHED_AFTER_S, watch)
        try:
            return await response
        except asyncio.CancelledError:
            if not context.disconnected:
                raise
            task.uncancel()
            raise ClientLeftError from None
        finally:
            timer.cancel()
            if watcher is not None:
                watcher.remove_done_callback(on_disconnect)
                watcher.cancel()

    def cancel(self, context: RequestContext) -> None:
        """Drop the work of a request whose client disconnected."""
        context.disconnected = True
        self._scheduler.drop(context)

    def text_of_metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return self.metrics.to_text(self.statistics, self._scheduler.waiting)

    def swap(self, model: ServedModel) -> None:
        """Serve ``model`` from the next request on; requests in flight finish on the model that they started with."""
        self.models[model.name] = model

    async def drained(self) -> None:
        """Return when no run waits or is in progress."""
        while self.admission.runs:
            await asyncio.sleep(0.01)

    @property
    def busy(self) -> bool:
        """Whether a thread is at work that ``close`` did not wait for."""
        return self._converting or self._scheduler.alive

    def close(self, *, within_s: float = 10.0) -> None:
        """Accept no more requests, and end the threads when the queue is empty, or after ``within_s`` seconds."""
        self.ready = self.open = False
        self._scheduler.close(within_s=within_s)
        self._converter.shutdown(wait=False, cancel_futures=True)

    async def _run_jobs(
        self, model: ServedModel, sources: Sequence[InputSource], context: RequestContext
    ) -> list[InferenceJob]:
        """Return the finished jobs of a request's inputs.

        Raises BusyError where they are not admitted, DeadlineError when they take too long.
        """
        context.check()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        starts = range(0, len(sources), model.inputs_per_job)
        unfinished = len(starts)

        def finish(job: InferenceJob) -> None:
            nonlocal unfinished
            unfinished -= 1
            self._count_job(model, job)
            if unfinished == 0 and not done.done():
                done.set_result(None)

        def on_finish(job: InferenceJob) -> None:
            loop.call_soon_threadsafe(finish, job)

        self.admission.enter(len(starts), context)
        jobs = [
            InferenceJob(model, sources[start : start + model.inputs_per_job], context=context, on_finish=on_finish)
            for start in starts
        ]
        self._scheduler.put(jobs)
        timer = loop.call_later(context.remaining_s(), _expire, done)
        try:
            await done
        except TimeoutError:
            self.cancel(context)
            raise context.deadline_error() from None
        finally:
            timer.cancel()
        _raise_first_error(jobs)
        return jobs

    def _count_job(self, model: ServedModel, job: InferenceJob) -> None:
        """Release a finished job from admission, and count its inputs in the statistics and metrics."""
        completed = job.batch_size > 0 and job.error is None
        shared_by = job.batch_size if len(job.results) == 1 else 1
        busy_s = job.seconds["decode"] + job.seconds["geometry"] + job.seconds["network"] / max(1, shared_by)
        self.admission.leave(1, busy_s if completed else 0.0)
        if completed:
            inputs = sum(not isinstance(result, InputError) for result in job.results)
            self.statistics[model.name].add_job(job.seconds, batch_size=job.batch_size, inputs=inputs)
            self.metrics.add_job(model.name, job.seconds, batch_size=job.batch_size)
            for result in job.results:
                if isinstance(result, Scores) and (precision := precision_of(result.value)):
                    self.metrics.add_row(model.name, precision)


def _expire(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_exception(TimeoutError())


class _OutcomeCounter:
    """Counts a request as a success or a failure of its model, with its time."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        self.failed = False

    def __enter__(self) -> "_OutcomeCounter":
        self._started = time.monotonic()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        outcome = self.statistics.fail if self.failed or kind is not None else self.statistics.success
        outcome.add(time.monotonic() - self._started)


def size_bytes(values: Any) -> int:
    """Return the size of all arrays in nested lists and dictionaries."""
    if isinstance(values, dict):
        return sum(map(size_bytes, values.values()))
    if isinstance(values, list | tuple):
        return sum(map(size_bytes, values))
    return int(getattr(values, "nbytes", 0))


def _scores_bytes(results: Sequence[InputResult]) -> int:
    return sum(size_bytes(result.value) for result in results if not isinstance(result, InputError))


def _raise_first_error(jobs: Sequence[InferenceJob]) -> None:
    """Raise the error of the first job that failed as a whole, or do nothing."""
    errors = [job.error for job in jobs if job.error is not None]
    if errors:
        for job in jobs:
            job.error = None
        _raise(errors)


def _rows(jobs: Sequence[InferenceJob]) -> list[Any]:
    """Return the scores of each input; raises the error of the first that failed."""
    errors: list[BaseException] = [result for result in _input_results(jobs) if isinstance(result, InputError)]
    if errors:
        for job in jobs:
            job.results.clear()
        _raise(errors)
    return [result.value for result in _input_results(jobs) if isinstance(result, Scores)]


def _raise(errors: list[BaseException]) -> NoReturn:
    """Raise the first of some errors, and empty the list.

    Nothing that its frames hold, which its traceback keeps, may hold it: the request's memory, of which they hold much,
    would stay until the garbage collector comes across it.
    """
    error = errors[0]
    errors.clear()
    try:
        raise error
    finally:
        del error


def _input_results(jobs: Sequence[InferenceJob]) -> list[InputResult]:
    """Return the result of each input, over all finished jobs of a request."""
    return [result for job in jobs for result in job.results if result is not None]


def _longest_stages(jobs: Sequence[InferenceJob]) -> dict[str, float]:
    return {stage: max(job.seconds[stage] for job in jobs) for stage in STAGES}
