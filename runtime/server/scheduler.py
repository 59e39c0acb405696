"""Worker threads and the queue in front of them: one image is one job.

The session follows the load. On a CPU, as many single-threaded runs as cores give the highest throughput, and one run
on all cores gives the lowest latency; so a job with no concurrent job uses the multi-threaded session, where that has
proven faster, and any other job runs the network on its own thread. Both sessions map the same weights file.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from runtime.engine.interruption import Interruption
from runtime.errors import InputError
from runtime.model import Model
from runtime.server.batcher import Batcher
from runtime.server.context import RequestContext
from runtime.server.decoding import decode, detached
from runtime.server.errors import StoppingError
from runtime.server.jobs import AcceptedInput, InferenceJob, InputResult, PreparedInput, RejectedInput, Scores

# How long the threads have to end once their runs were ended: a node takes a fraction of it.
_INTERRUPTED_S = 0.5


class Scheduler:
    """A fixed number of threads behind one first-in, first-out queue."""

    def __init__(self, count: int) -> None:
        self._queue: deque[InferenceJob] = deque()
        self._running = 0
        self._interruptions: dict[Interruption, RequestContext] = {}
        self._closed = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._batcher = Batcher()
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{index}", daemon=True) for index in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._queue)

    @property
    def alive(self) -> bool:
        """Whether a thread has not ended; after ``close`` it is one that was abandoned."""
        return self._batcher.alive or any(thread.is_alive() for thread in self._threads)

    def put(self, jobs: Sequence[InferenceJob]) -> None:
        """Queue a request's jobs, in order."""
        with self._lock:
            self._queue.extend(jobs)
            self._changed.notify(len(jobs))

    def drop(self, context: RequestContext) -> None:
        """Finish the jobs of ``context``: those that still wait for a thread, and those whose network runs."""
        with self._lock:
            for interruption, running in self._interruptions.items():
                if running is context:
                    interruption.interrupt()
            dropped = [job for job in self._queue if job.context is context]
            if dropped:
                self._queue = deque(job for job in self._queue if job.context is not context)
        for job in dropped:
            job.finish()
        self._batcher.drop()

    def close(self, *, within_s: float = 10.0) -> None:
        """Let the threads finish what is queued, and end them; after ``within_s`` seconds their runs are ended.

        A thread that goes on regardless is abandoned.
        """
        until = time.monotonic() + within_s
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if self._interrupt_all():
            until = time.monotonic() + _INTERRUPTED_S
            for thread in self._threads:
                thread.join(max(0.0, until - time.monotonic()))
        self._batcher.close(within_s=max(0.0, until - time.monotonic()))

    def _interrupt_all(self) -> bool:
        """End the runs in progress, and drop the jobs behind them; return whether there were any."""
        with self._lock:
            self._queue.clear()
            for interruption in self._interruptions:
                interruption.interrupt()
            return bool(self._interruptions)

    def _work(self) -> None:
        _lower_wakeup_priority()
        while True:
            with self._lock:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if not self._queue:
                    return
                job = self._queue.popleft()
                self._running += 1
            try:
                self._run(job)
            finally:
                del job  # while this thread waits for the next one
                with self._lock:
                    self._running -= 1

    def _run(self, job: InferenceJob) -> None:
        job.seconds["queue"] = time.monotonic() - job.queued_at
        try:
            job.context.check()
            prepared = _prepare_inputs(job)
            job.sources = ()
            if len(job.results) == 1 and prepared and job.model.batch_models:
                self._batcher.put(job, prepared[0])
                return
            if prepared:
                job.context.check()
                self._score_inputs(job, list(prepared.values()), list(prepared))
        except BaseException as error:  # a deadline that passed, or a fault of ours: it costs this job, not the thread
            job.error = error
        job.finish()

    def _score_inputs(self, job: InferenceJob, prepared: Sequence[Any], indices: Sequence[int]) -> None:
        """Run the network on prepared inputs, whose results stand at ``indices`` of the job's."""
        alone = self._is_alone()
        model = job.model
        session = model.session_chooser.choose() if alone else model.single_threaded
        started = time.monotonic()
        with self._interruptible(job.context) as interruption:
            results = _score(session, prepared)
        if interruption.interrupted:
            job.context.check()
            raise StoppingError("server: stopped while this request ran. Send it again.")
        for index, result in zip(indices, results, strict=True):
            job.results[index] = result
        job.seconds["network"] = time.monotonic() - started
        if alone:
            seconds = job.seconds["network"] / len(indices)
            model.session_chooser.record(session, seconds, overlapped=not self._is_alone())
        job.batch_size = len(indices)

    @contextlib.contextmanager
    def _interruptible(self, context: RequestContext) -> Iterator[Interruption]:
        """Give an interruption of this thread's runs, which ``drop`` and ``close`` end."""
        interruption = Interruption()
        with self._lock:
            self._interruptions[interruption] = context
        try:
            context.check()  # it may have been dropped just before
            with interruption:
                yield interruption
        finally:
            with self._lock:
                del self._interruptions[interruption]

    def _is_alone(self) -> bool:
        """Whether no other job runs or waits, so that the other cores are idle."""
        return self._running == 1 and not self._queue


def _prepare_inputs(job: InferenceJob) -> dict[int, Any]:
    """Return the job's prepared inputs by index; the error of one that cannot be used is put into its results."""
    prepared = {}
    for index, source in enumerate(job.sources):
        if isinstance(source, RejectedInput):
            job.results[index] = source.error
            continue
        try:
            prepared[index] = _prepare_input(job, source)
        except InputError as error:
            job.results[index] = detached(error)
    return prepared


def _prepare_input(job: InferenceJob, source: AcceptedInput | PreparedInput) -> Any:
    """Return one prepared input; raises InputError for one that cannot be used, LateError between the two steps."""
    if isinstance(source, PreparedInput):
        return source.value
    model = job.model.single_threaded
    started = time.monotonic()
    decoded = decode(lambda: model.decode(source.value, subject=source.subject), source.subject)
    decoded_at = time.monotonic()
    job.seconds["decode"] += decoded_at - started
    job.context.check()
    prepared = decode(lambda: model.prepare(decoded, subject=source.subject), source.subject)
    job.seconds["geometry"] += time.monotonic() - decoded_at
    return prepared


def _score(session: Model, prepared: Sequence[Any]) -> list[InputResult]:
    """Return the scores of each input, or its error where it alone fails."""
    try:
        return [Scores(value=row) for row in session.score(prepared)]
    except InputError as error:
        if len(prepared) == 1:
            return [detached(error)]
        return [_score(session, [value])[0] for value in prepared]


def _lower_wakeup_priority() -> None:
    """Mark this thread as a batch job: the kernel then does not preempt the event loop when it wakes this thread."""
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
