"""Inference jobs: inputs of one request, from their sources to their scores."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from runtime.errors import InputError
from runtime.server.context import RequestContext
from runtime.server.served_model import ServedModel

# The stages of a job; also the names in Server-Timing and in the logs.
STAGES = ("queue", "decode", "geometry", "network")


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptedInput:
    """An input that was read from a request; ``value`` is what ``Model.decode`` takes.

    ``name`` is the ``input`` field of its result, ``subject`` its name in messages.
    """

    name: str
    subject: str
    value: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedInput:
    """An input that goes to the network as it is; ``value`` is what ``Model.prepare`` returns."""

    name: str
    subject: str
    value: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedInput:
    """An input of the wrong kind; its result is ``error``, and the other inputs of the request run."""

    name: str
    subject: str
    error: InputError


InputSource: TypeAlias = AcceptedInput | PreparedInput | RejectedInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The network's scores for one input: an entry of what ``Model.score`` returns."""

    value: Any


InputResult: TypeAlias = Scores | InputError


class InferenceJob:
    """Some inputs of a request; times are in seconds.

    ``results`` has the scores or the error of each input once ``on_finish`` was called; ``error`` is set where the
    whole job failed. ``batch_size`` is the number of inputs in its run of the network, 0 where there was none.
    """

    __slots__ = (
        "batch_size",
        "context",
        "error",
        "model",
        "on_finish",
        "queued_at",
        "results",
        "seconds",
        "sources",
    )

    def __init__(
        self,
        model: ServedModel,
        sources: Sequence[InputSource],
        *,
        context: RequestContext,
        on_finish: Callable[["InferenceJob"], None],
    ) -> None:
        self.model = model
        self.sources = sources
        self.context = context
        self.on_finish = on_finish
        self.queued_at = time.monotonic()
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.batch_size = 0
        self.results: list[InputResult | None] = [None] * len(sources)
        self.error: BaseException | None = None

    def finish(self) -> None:
        """Release the sources and call ``on_finish``, whatever the outcome."""
        self.sources = ()
        self.on_finish(self)

    def fail(self, error: BaseException) -> None:
        """Finish the job with an error."""
        self.error = error
        self.finish()
