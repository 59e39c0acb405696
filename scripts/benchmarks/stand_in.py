"""The host's side of an accelerator: photos to labels, where the network's session takes time and no processor.

Only the session is replaced: it sleeps a few milliseconds for a batch, one batch after the other, as a device does.
Preparing, batches, threads and results are the product's own. The rate is compared with that of threads, as many as
cores, which prepare the same photos and do nothing else.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figure, Results
from benchmarks.servers import photos
from benchmarks.timing import alternate, seconds_of
from material.paths import ARTIFACT
from runtime.engine.cpu import usable_cores
from runtime.engine.session import Arrays, Session, open_session
from runtime.model import load
from runtime.server.context import new_context
from runtime.server.jobs import AcceptedInput, InferenceJob
from runtime.server.scheduler import Scheduler
from runtime.server.served_model import ServedModel, load_verified

_FLOOR = 0.9
_BATCH = 16


class StandIn(Session):
    """A session that sleeps ``batch_s`` for every 16 inputs, one call at a time, and returns equal scores.

    Until then it runs: a server checks what a device computes before it serves.
    """

    batch_s = 0.0
    row: Mapping[str, NDArray[Any]]
    _device = threading.Lock()

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return the scores of an input that ran before, for every input."""
        if not self.batch_s:
            outputs = super().run(arrays)
            self.row = {name: output[:1] for name, output in outputs.items()}
            return outputs
        self._check(arrays)
        count = len(next(iter(arrays.values())))
        with self._device:
            time.sleep(self.batch_s * max(1, count / _BATCH))
        return {name: np.repeat(row, count, axis=0) for name, row in self.row.items()}


@contextmanager
def stand_in(batch_s: float) -> Iterator[Callable[[], None]]:
    """Let every session that is opened inside the context stand in for an accelerator's, once the result is called."""
    opened: list[StandIn] = []

    def open_stand_in(graph: Any, **options: Any) -> Session:
        session = open_session(graph, **{**options, "device": "cpu"})
        session.__class__ = StandIn
        assert isinstance(session, StandIn)
        session.device = "stand-in"
        opened.append(session)
        return session

    def start() -> None:
        for session in opened:
            session.batch_s = batch_s

    with mock.patch("runtime.engine.executor.open_session", open_stand_in):
        yield start


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--artifact", type=Path, default=ARTIFACT, help="the model (%(default)s)")
    parser.add_argument("--photo", type=Path, action="append", help="a photo; by default those of the demo")
    parser.add_argument("--photos", type=int, default=960, help="photos of a turn (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns, whose median counts (%(default)s)")
    parser.add_argument("--batch-ms", type=float, default=5.0, help="time of a batch of 16 (%(default)s)")


def measure(options: argparse.Namespace) -> Results:
    """Return the rates of predict and of the server's queue, of what the cores can prepare."""
    bodies = [path.read_bytes() for path in options.photo] if options.photo else photos()
    sources = [bodies[index % len(bodies)] for index in range(options.photos)]
    with stand_in(options.batch_ms / 1000) as start:
        model = load(options.artifact, device="cpu", plan="throughput")
        served = load_verified(
            options.artifact, name="model", device="cpu", cores=usable_cores(), max_pixels=64_000_000
        )
    start()
    scheduler = Scheduler(usable_cores())
    with ThreadPoolExecutor(usable_cores()) as pool, model:
        ways = {
            "preparing alone": lambda: list(pool.map(model.prepare, sources)),
            "predict": lambda: list(model.predict_each((f"#{index}", body) for index, body in enumerate(sources))),
            "serve": lambda: _serve(scheduler, served, sources),
        }
        turns = alternate([lambda way=way: seconds_of(way) for way in ways.values()], options.rounds)
    scheduler.close()
    seconds = dict(zip(ways, turns, strict=True))
    rates = {way: [len(sources) / each for each in seconds[way]] for way in ways}
    figures = [_figure(way, rates) for way in ("predict", "serve")]
    return Results(figures=figures, details={"photos_per_s": rates, "batch_ms": options.batch_ms})


def _figure(way: str, rates: dict[str, list[float]]) -> Figure:
    shares = [rate / alone for rate, alone in zip(rates[way], rates["preparing alone"], strict=True)]
    share = statistics.median(shares)
    return Figure(
        promise=f"{way} with a stand-in accelerator, of what the cores can prepare",
        measured=f"{share:.2f} (best {max(shares):.2f}; {statistics.median(rates[way]):.0f}/s)",
        target=str(_FLOOR),
        met=share >= _FLOOR,
    )


def _serve(scheduler: Scheduler, model: ServedModel, sources: Sequence[bytes], in_flight: int = 64) -> None:
    """Run one job per source through the server's queue, so many in flight."""
    free = threading.Semaphore(in_flight)
    failed: list[BaseException] = []

    def finish(job: InferenceJob) -> None:
        if job.error is not None:
            failed.append(job.error)
        free.release()

    for source in sources:
        free.acquire()
        context = new_context(request_id="", traceparent="", deadline_s=60)
        accepted = AcceptedInput(name="body", subject="'body'", value=source)
        scheduler.put([InferenceJob(model, [accepted], context=context, on_finish=finish)])
    for _ in range(in_flight):
        free.acquire()
    if failed:
        raise failed[0]
