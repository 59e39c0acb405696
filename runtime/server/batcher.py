"""Dynamic batching for accelerators.

Whatever is ready when the device is free runs together; nothing waits for a batch to fill. A batch goes to the model of
its size or the next larger one, which pads it: each ran once before the server was ready, so that no request meets a
shape that the device has not prepared. A batch that fails is run again one by one: a bad input costs only itself.
"""

import threading
import time
from collections import deque
from typing import Any

from runtime.engine.interruption import Interruption
from runtime.server.context import RequestContext
from runtime.server.errors import StoppingError
from runtime.server.jobs import InferenceJob, Scores

# How long the thread has to end once its run was ended: a node takes a fraction of it.
_INTERRUPTED_S = 0.5


class Batcher:
    """One thread that feeds the device; it starts with the first job."""

    def __init__(self) -> None:
        self._ready: deque[tuple[InferenceJob, Any]] = deque()
        self._closed = False
        self._running: tuple[Interruption, list[RequestContext]] | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether the thread has started and not ended."""
        return self._thread is not None and self._thread.is_alive()

    def put(self, job: InferenceJob, prepared: Any) -> None:
        """Queue a job of one prepared input."""
        job.queued_at = time.monotonic()
        with self._changed:
            self._ready.append((job, prepared))
            if self._thread is None:
                self._thread = threading.Thread(target=self._feed, name="batcher", daemon=True)
                self._thread.start()
            self._changed.notify()

    def drop(self) -> None:
        """End the run in progress where no request waits for it any more: all were dropped, or are late."""
        with self._changed:
            if self._running is None:
                return
            interruption, contexts = self._running
            if all(context.disconnected or context.remaining_s() <= 0 for context in contexts):
                interruption.interrupt()

    def close(self, *, within_s: float) -> None:
        """Finish what is queued, then end the thread; after ``within_s`` seconds its run is ended.

        A thread that goes on regardless is abandoned.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is None:
            return
        self._thread.join(within_s)
        with self._changed:
            if self._running is not None:
                self._ready.clear()
                self._running[0].interrupt()
        self._thread.join(_INTERRUPTED_S)

    def _feed(self) -> None:
        while True:
            with self._changed:
                while not self._ready and not self._closed:
                    self._changed.wait()
                if not self._ready:
                    return
                batch = self._take_batch()
            self._run(batch)

    def _take_batch(self) -> list[tuple[InferenceJob, Any]]:
        """Return the first job, and those behind it that can share its run: the same model, the same bucket."""
        first, prepared = self._ready.popleft()
        batch = [(first, prepared)]
        largest = max(first.model.batch_models)
        bucket_of = first.model.single_threaded.bucket
        bucket = bucket_of(prepared)
        rest: deque[tuple[InferenceJob, Any]] = deque()
        while self._ready and len(batch) < largest:
            job, other = self._ready.popleft()
            fits = job.model is first.model and bucket_of(other) == bucket
            (batch if fits else rest).append((job, other))
        self._ready.extendleft(reversed(rest))
        return batch

    def _run(self, batch: list[tuple[InferenceJob, Any]]) -> None:
        live = []
        for job, prepared in batch:
            job.seconds["queue"] += time.monotonic() - job.queued_at
            try:
                job.context.check()
                live.append((job, prepared))
            except BaseException as error:  # the client disconnected or the deadline passed: the others run
                job.fail(error)
        if not live:
            return
        started = time.monotonic()
        interruption = Interruption()
        with self._changed:
            self._running = (interruption, [job.context for job, _ in live])
        try:
            models = live[0][0].model.batch_models
            with interruption:
                rows = models[next(size for size in models if size >= len(live))].score([value for _, value in live])
        except BaseException as error:  # caused by one input or by all: running them one by one shows which
            if interruption.interrupted:
                _fail_interrupted(live)
            elif len(live) == 1:
                live[0][0].fail(error)
            else:
                for job, prepared in live:
                    job.queued_at = time.monotonic()
                    self._run([(job, prepared)])
            return
        finally:
            with self._changed:
                self._running = None
        seconds = time.monotonic() - started
        for (job, _), row in zip(live, rows, strict=True):
            job.seconds["network"] = seconds
            job.batch_size = len(live)
            job.results[0] = Scores(value=row)
            job.finish()


def _fail_interrupted(batch: list[tuple[InferenceJob, Any]]) -> None:
    """Finish jobs whose run was ended: for each its own reason."""
    for job, _ in batch:
        try:
            job.context.check()
            raise StoppingError("server: stopped while this request ran. Send it again.")
        except BaseException as error:
            job.fail(error)
