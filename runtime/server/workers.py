"""The threads that do the work, and the queue before them: one input is one job.

The plan follows the load. On a CPU as many single-threaded runs as cores give the most answers, and one run on all
cores gives the fastest one; so a job that finds itself alone in the house runs the network on all cores, and any other
runs it on its own thread. Both sessions map the same weights file.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from runtime.errors import InputError
from runtime.server.admission import Call
from runtime.server.batching import Batcher
from runtime.server.errors import LateError
from runtime.server.loaded import Loaded

# How long a job may have taken in each of its stages; also the names in Server-Timing and in the logs.
STAGES = ("queue", "decode", "geometry", "network")


class Job:
    """One input of a request, from its source to its row of scores; times are in seconds.

    ``source`` is what ``Model.decode`` takes, or prepared input where ``prepared`` is true. ``scores`` or ``error``
    holds the answer once ``finished`` was called.
    """

    __slots__ = (
        "batch",
        "call",
        "entered",
        "error",
        "finished",
        "loaded",
        "prepared",
        "scores",
        "seconds",
        "source",
        "subject",
    )

    def __init__(
        self,
        loaded: Loaded,
        source: Any,
        *,
        call: Call,
        subject: str,
        prepared: bool,
        finished: Callable[["Job"], None],
    ) -> None:
        self.loaded = loaded
        self.source = source
        self.call = call
        self.subject = subject
        self.prepared = prepared
        self.finished = finished
        self.entered = time.monotonic()
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.batch = 0
        self.scores: Any = None
        self.error: Exception | None = None

    def end(self) -> None:
        """Say that the job is over, whichever way; what it was given is let go."""
        self.source = None
        self.finished(self)

    def fail(self, error: Exception) -> None:
        """End the job with an error."""
        self.error = error
        self.end()


class Workers:
    """A fixed number of threads behind one first-in, first-out queue."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._queue: deque[Job] = deque()
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

    def put(self, jobs: Sequence[Job]) -> None:
        """Queue a request's jobs, in order."""
        with self._lock:
            self._queue.extend(jobs)
            self._wanted.notify(len(jobs))

    def drop(self, call: Call) -> None:
        """End the jobs of ``call`` that no thread has begun: nobody waits for them."""
        with self._lock:
            dropped = [job for job in self._queue if job.call is call]
            if dropped:
                self._queue = deque(job for job in self._queue if job.call is not call)
        for job in dropped:
            job.end()

    def close(self) -> None:
        """Let the threads finish what is queued, then end them."""
        with self._lock:
            self._closed = True
            self._wanted.notify_all()
        for thread in self._threads:
            thread.join()
        self._batcher.close()

    def _work(self) -> None:
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

    def _run(self, job: Job) -> None:
        begun = time.monotonic()
        job.seconds["queue"] = begun - job.entered
        try:
            job.call.check()
            prepared = job.source
            if not job.prepared:
                model = job.loaded.narrow
                decoded = model.decode(job.source, subject=job.subject)
                decoded_at = time.monotonic()
                job.call.check()
                prepared = model.prepare(decoded, subject=job.subject)
                job.seconds["decode"] = decoded_at - begun
                job.seconds["geometry"] = time.monotonic() - decoded_at
            job.source = None
            if job.loaded.batch_sizes:
                self._batcher.put(job, prepared)
                return
            network = job.loaded.wide if self._is_alone() else job.loaded.narrow
            scoring = time.monotonic()
            job.scores = network.score([prepared])[0]
            job.seconds["network"] = time.monotonic() - scoring
            job.batch = 1
        except (InputError, LateError) as error:
            job.error = error
        except Exception as error:  # a fault of ours or of a library's: it costs this request, not the thread
            job.error = error
        job.end()

    def _is_alone(self) -> bool:
        """Whether no other job runs or waits: then the other cores have nothing to do."""
        return self._running == 1 and not self._queue
