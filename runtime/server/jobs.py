"""Inference jobs: inputs of one request, from their sources to their scores."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from runtime.server.admission import RequestContext
from runtime.server.served_model import ServedModel

# How long a job may have taken in each of its stages; also the names in Server-Timing and in the logs.
STAGES = ("queue", "decode", "geometry", "network")


class InferenceJob:
    """Some inputs of a request, from their sources to their scores; times are in seconds.

    ``sources`` are what ``Model.decode`` takes, or the InputError of what is none; prepared inputs where ``prepared``
    is true. ``subjects`` name them in messages. ``results`` holds the scores of each, or the InputError that it costs,
    once ``finished`` was called; ``error`` is set where all of them have none.
    """

    __slots__ = (
        "batch",
        "call",
        "entered",
        "error",
        "finished",
        "loaded",
        "prepared",
        "results",
        "seconds",
        "sources",
        "subjects",
    )

    def __init__(
        self,
        loaded: ServedModel,
        sources: Sequence[Any],
        *,
        call: RequestContext,
        subjects: Sequence[str],
        prepared: bool,
        finished: Callable[["InferenceJob"], None],
    ) -> None:
        self.loaded = loaded
        self.sources = sources
        self.subjects = subjects
        self.call = call
        self.prepared = prepared
        self.finished = finished
        self.entered = time.monotonic()
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.batch = 0
        self.results: list[Any] = [None] * len(sources)
        self.error: Exception | None = None

    def end(self) -> None:
        """Say that the job is over, whichever way; what it was given is let go."""
        self.sources = ()
        self.finished(self)

    def fail(self, error: Exception) -> None:
        """End the job with an error."""
        self.error = error
        self.end()
