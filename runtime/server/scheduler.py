"""The threads that do the work, and the queue before them: one image is one job.

The plan follows the load. On a CPU as many single-threaded runs as cores give the most answers, and one run on all
cores gives the fastest one; so a job that finds itself alone in the house runs the network on all cores, where that has
proven faster, and any other runs it on its own thread. Both sessions map the same weights file.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from runtime.errors import InputError
from runtime.model import Model
from runtime.server.admission import RequestContext
from runtime.server.batcher import Batcher
from runtime.server.jobs import InferenceJob


class Scheduler:
    """A fixed number of threads behind one first-in, first-out queue."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._queue: deque[InferenceJob] = deque()
        self._running = 0
        self._closed = False
        self._lock = threading.Lock()
        self._wanted = threading.Condition(self._lock)
        self._batcher = Batcher()
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs no thread has begun."""
        return len(self._queue)

    def put(self, jobs: Sequence[InferenceJob]) -> None:
        """Queue a request's jobs, in order."""
        with self._lock:
            self._queue.extend(jobs)
            self._wanted.notify(len(jobs))

    def drop(self, call: RequestContext) -> None:
        """End the jobs of ``call`` that no thread has begun: nobody waits for them."""
        with self._lock:
            dropped = [job for job in self._queue if job.call is call]
            if dropped:
                self._queue = deque(job for job in self._queue if job.call is not call)
        for job in dropped:
            job.end()

    def close(self, *, within_s: float = 10.0) -> None:
        """Let the threads finish what is queued, and end them; those that take longer than ``within_s`` are left."""
        until = time.monotonic() + within_s
        with self._lock:
            self._closed = True
            self._wanted.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._batcher.close(within_s=max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        _give_way()
        while True:
            with self._lock:
                while not self._queue and not self._closed:
                    self._wanted.wait()
                if not self._queue:
                    return
                job = self._queue.popleft()
                self._running += 1
            try:
                self._run(job)
            finally:
                with self._lock:
                    self._running -= 1

    def _run(self, job: InferenceJob) -> None:
        job.seconds["queue"] = time.monotonic() - job.entered
        try:
            job.call.check()
            prepared = list(job.sources) if job.prepared else self._prepare(job)
            rows = [row for row, result in enumerate(job.results) if result is None]
            job.sources = ()
            if len(job.results) == 1 and rows and job.loaded.batched:
                self._batcher.put(job, prepared[0])
                return
            if rows:
                job.call.check()
                alone = self._is_alone()
                network = job.loaded.lone.choose() if alone else job.loaded.narrow
                scoring = time.monotonic()
                for row, scores in zip(rows, _score(network, prepared), strict=True):
                    job.results[row] = scores
                job.seconds["network"] = time.monotonic() - scoring
                if alone:
                    seconds = job.seconds["network"] / len(rows)
                    job.loaded.lone.note(network, seconds, joined=not self._is_alone())
                job.batch = len(rows)
        except Exception as error:  # late, or a fault of ours: it costs this job, not the thread
            job.error = error
        job.end()

    def _prepare(self, job: InferenceJob) -> list[Any]:
        """Return the job's inputs, prepared; those that cannot be used leave their error among its results."""
        model = job.loaded.narrow
        prepared = []
        for row, (source, subject) in enumerate(zip(job.sources, job.subjects, strict=True)):
            if isinstance(source, InputError):  # it was no input of this kind to begin with
                job.results[row] = source
                continue
            begun = time.monotonic()
            try:
                decoded = model.decode(source, subject=subject)
                decoded_at = time.monotonic()
                job.seconds["decode"] += decoded_at - begun
                job.call.check()
                prepared.append(model.prepare(decoded, subject=subject))
                job.seconds["geometry"] += time.monotonic() - decoded_at
            except InputError as error:
                job.results[row] = error
            except MemoryError:
                job.results[row] = InputError(
                    f"{subject}: out of memory: expected room to decode it, got none. Make it smaller."
                )
        return prepared

    def _is_alone(self) -> bool:
        """Whether no other job runs or waits: then the other cores have nothing to do."""
        return self._running == 1 and not self._queue


def _give_way() -> None:
    """Tell the scheduler that this thread computes: waking it must not push the event loop off its core."""
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _score(network: Model, prepared: Sequence[Any]) -> Sequence[Any]:
    """Return the scores of each input, or the error that it alone costs."""
    try:
        return network.score(prepared)
    except InputError as error:
        if len(prepared) == 1:
            return [error]
        return [_score(network, [one])[0] for one in prepared]
