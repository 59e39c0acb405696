"""Dynamic batching for accelerators: what is ready when the device is free runs together, and nothing waits for more.

A batch goes to the model of its size or the next larger one, which fills it up: each was run once before the server was
ready, so that no request meets a shape that the device has not prepared. A batch that fails is run again one by one: a
bad input costs only itself.
"""

import threading
import time
from collections import deque
from typing import Any

from runtime.server.jobs import InferenceJob


class Batcher:
    """One thread that feeds the device; it starts with the first job."""

    def __init__(self) -> None:
        self._ready: deque[tuple[InferenceJob, Any]] = deque()
        self._closed = False
        self._wanted = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, job: InferenceJob, prepared: Any) -> None:
        """Queue a job whose input is prepared."""
        job.entered = time.monotonic()
        with self._wanted:
            self._ready.append((job, prepared))
            if self._thread is None:
                self._thread = threading.Thread(target=self._feed, name="batcher", daemon=True)
                self._thread.start()
            self._wanted.notify()

    def close(self, *, within_s: float) -> None:
        """Finish what is queued, then end the thread; it is left if it takes longer than ``within_s`` seconds."""
        with self._wanted:
            self._closed = True
            self._wanted.notify()
        if self._thread is not None:
            self._thread.join(within_s)

    def _feed(self) -> None:
        while True:
            with self._wanted:
                while not self._ready and not self._closed:
                    self._wanted.wait()
                if not self._ready:
                    return
                batch = self._take()
            _run(batch)

    def _take(self) -> list[tuple[InferenceJob, Any]]:
        """Return the first job, and those behind it that can share its run: the same model, the same bucket."""
        first, prepared = self._ready.popleft()
        batch = [(first, prepared)]
        most = max(first.loaded.batched)
        bucket = first.loaded.narrow.bucket
        wanted = bucket(prepared)
        rest: deque[tuple[InferenceJob, Any]] = deque()
        while self._ready and len(batch) < most:
            job, other = self._ready.popleft()
            fits = job.loaded is first.loaded and bucket(other) == wanted
            (batch if fits else rest).append((job, other))
        self._ready.extendleft(reversed(rest))
        return batch


def _run(batch: list[tuple[InferenceJob, Any]]) -> None:
    live = []
    for job, prepared in batch:
        job.seconds["queue"] += time.monotonic() - job.entered
        try:
            job.call.check()
            live.append((job, prepared))
        except Exception as error:  # it left or is late: the others run
            job.fail(error)
    if not live:
        return
    started = time.monotonic()
    try:
        models = live[0][0].loaded.batched
        rows = models[next(size for size in models if size >= len(live))].score([prepared for _, prepared in live])
    except Exception as error:  # one of them, or all: found out one by one
        if len(live) == 1:
            live[0][0].fail(error)
            return
        for alone in live:
            alone[0].entered = time.monotonic()
            _run([alone])
        return
    seconds = time.monotonic() - started
    for (job, _), row in zip(live, rows, strict=True):
        job.seconds["network"] = seconds
        job.batch = len(live)
        job.results[0] = row
        job.end()
