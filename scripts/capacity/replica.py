"""Simulation of one server process by the rules of ``runtime.server``.

The server's own ``Admission`` decides which requests are admitted, and its ``SessionChooser`` which session runs a lone
input. Simplified: Python's lock is represented by the event loop's single thread alone; a deadline is checked before a
job begins and before its network, but not between decoding and geometry; a refusal costs as much of the event loop as
a response.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from capacity.clock import Clock, Cores
from runtime.errors import BusyError
from runtime.server.admission import Admission
from runtime.server.errors import LateError
from runtime.server.limits import Limits
from runtime.server.served_model import SessionChooser

# The outcomes of a request, of which each has exactly one.
ANSWERED, REFUSED, LATE, LOST = "answered", "refused", "late", "lost"

# The two sessions, where the server's SessionChooser has models.
_SINGLE, _MULTI = "single-threaded", "multi-threaded"


class Demand(NamedTuple):
    """Time that one request takes, in seconds: of the event loop before and after, of a worker, of the network.

    ``network`` is its time on one thread, ``all_cores`` on all of them. ``outside`` is time in which no thread of the
    server works: sockets, and the hand-off between threads.
    """

    receive: float
    prepare: float
    network: float
    all_cores: float
    respond: float
    outside: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """A server process: ``workers`` threads and an event loop on cores of these ``speeds`` (see ``Cores``).

    ``lone_threads`` is the number of cores that a lone input's network runs on; 1 where there is a single session.
    ``batch_s`` is the time of the network by batch size, where requests run in batches on an accelerator.
    """

    workers: int
    speeds: Sequence[float]
    limits: Limits = field(default_factory=Limits)
    lone_threads: int = 1
    batch_s: Mapping[int, float] = field(default_factory=dict)


class Request:
    """One request in flight; also the ``Deadline`` that admission checks."""

    __slots__ = ("arrived", "busy_s", "clock", "deadline", "demand", "ended", "outcome", "stage")

    def __init__(self, clock: Clock, demand: Demand, deadline_s: float) -> None:
        self.clock = clock
        self.demand = demand
        self.arrived = clock.now
        self.deadline = clock.now + deadline_s
        self.ended = 0.0
        self.outcome = ""
        self.stage = ""
        self.busy_s = 0.0

    def remaining_s(self) -> float:
        """Return the seconds until the deadline."""
        return self.deadline - self.clock.now

    def check(self) -> None:
        """Raise LateError when the deadline has passed."""
        if self.deadline <= self.clock.now:
            raise LateError("late")


class Replica:
    """A running server process; ``ended`` is called with each request once its outcome is known."""

    def __init__(self, clock: Clock, process: Process, ended: Callable[[Request], None]) -> None:
        self._clock = clock
        self._process = process
        self._ended = ended
        self.outstanding = 0
        self.cores = Cores(clock, process.speeds)
        self.loop_busy_s = 0.0
        self.device_busy_s = 0.0
        self._life = 0
        self._start_empty()

    def _start_empty(self) -> None:
        process = self._process
        self._life += 1
        self._admission = Admission(process.limits, workers=process.workers)
        self._lone = SessionChooser(_SINGLE, _MULTI if process.lone_threads > 1 else _SINGLE)
        self._inside: set[Request] = set()
        self._deadlines: deque[Request] = deque()
        self._watching = False
        self._loop: deque[tuple[float, Callable[[], None]]] = deque()
        self._loop_runs = False
        self._queue: deque[Request] = deque()
        self._running = 0
        self._ready: deque[Request] = deque()
        self._device_runs = False

    def arrive(self, request: Request) -> None:
        """Receive a request from the network."""
        self.outstanding += 1
        self._inside.add(request)
        request.stage = "arriving"
        self._deadlines.append(request)
        self._watch()
        life = self._life
        outside = request.demand.outside

        def receive() -> None:
            if life == self._life:
                self._on_loop(request.demand.receive, lambda: self._enter(request))

        if outside:
            self._clock.at(self._clock.now + outside, receive)
        else:
            receive()

    def crash(self) -> None:
        """Lose all requests in flight, as a killed process does."""
        lost = list(self._inside)
        self.cores.clear()
        self._start_empty()
        for request in lost:
            if not request.outcome:
                self._end(request, LOST)

    def _on_loop(self, work_s: float, then: Callable[[], None]) -> None:
        """Run ``then`` on the event loop's thread after ``work_s``, behind what waits there."""
        self._loop.append((work_s, then))
        if not self._loop_runs:
            self._loop_runs = True
            self._next_on_loop()

    def _next_on_loop(self) -> None:
        if not self._loop:
            self._loop_runs = False
            return
        work_s, then = self._loop.popleft()
        began = self._clock.now

        def done() -> None:
            self.loop_busy_s += self._clock.now - began
            then()
            self._next_on_loop()

        self.cores.start(work_s, done)

    def _enter(self, request: Request) -> None:
        if request.outcome:  # its deadline passed while it was read
            return
        try:
            self._admission.enter(1, request)
        except BusyError:
            request.stage = "done"
            self._on_loop(request.demand.respond, lambda: self._end(request, REFUSED))
            return
        except LateError:
            return  # its deadline passes at this very moment and ends it
        request.stage = "queue"
        self._queue.append(request)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue and self._running < self._process.workers:
            request = self._queue.popleft()
            self._running += 1
            request.stage = "worker"
            if request.outcome or request.deadline <= self._clock.now:
                self._leave(request, 0.0)
                self._running -= 1
                continue
            self._prepare(request)

    def _prepare(self, request: Request) -> None:
        began = self._clock.now

        def done() -> None:
            request.busy_s = self._clock.now - began
            self._prepared(request)

        self.cores.start(request.demand.prepare, done)

    def _prepared(self, request: Request) -> None:
        if self._process.batch_s:
            self._ready.append(request)
            self._free_worker()
            self._feed_device()
            return
        if request.outcome:
            self._leave(request, 0.0)
            self._free_worker()
            return
        alone = self._is_alone()
        session = self._lone.choose() if alone else _SINGLE
        began = self._clock.now

        def done() -> None:
            seconds = self._clock.now - began
            if alone:
                self._lone.record(session, seconds, overlapped=not self._is_alone())
            self._respond(request, request.busy_s + seconds)
            self._free_worker()

        if session is _MULTI:
            threads = self._process.lone_threads
            # It was measured with all of its threads at work: undo the slowdown, which is applied again here.
            work_s = request.demand.all_cores * self._process.speeds[min(threads, len(self._process.speeds)) - 1]
            self.cores.start(work_s, done, threads=threads)
        else:
            self.cores.start(request.demand.network, done)

    def _is_alone(self) -> bool:
        return self._running == 1 and not self._queue

    def _free_worker(self) -> None:
        self._running -= 1
        self._dispatch()

    def _feed_device(self) -> None:
        if self._device_runs or not self._ready:
            return
        sizes = sorted(self._process.batch_s)
        taken = [self._ready.popleft() for _ in range(min(len(self._ready), sizes[-1]))]
        batch = [request for request in taken if not request.outcome]
        for request in taken:
            if request.outcome:
                self._leave(request, 0.0)
        if not batch:
            self._feed_device()
            return
        self._device_runs = True
        life = self._life
        seconds = self._process.batch_s[next(size for size in sizes if size >= len(batch))]

        def done() -> None:
            if life != self._life:
                return
            self.device_busy_s += seconds
            self._device_runs = False
            for request in batch:
                self._respond(request, request.busy_s + seconds / len(batch))
            self._feed_device()

        self._clock.at(self._clock.now + seconds, done)

    def _respond(self, request: Request, busy_s: float) -> None:
        self._leave(request, busy_s)
        if not request.outcome:
            self._on_loop(request.demand.respond, lambda: self._end(request, ANSWERED))

    def _leave(self, request: Request, busy_s: float) -> None:
        request.stage = "done"
        self._admission.leave(1, busy_s)

    def _end(self, request: Request, outcome: str) -> None:
        if request.outcome:
            return
        request.outcome = outcome
        request.ended = self._clock.now
        self.outstanding -= 1
        self._inside.discard(request)
        self._ended(request)

    def _watch(self) -> None:
        """Schedule an event for the earliest deadline: all requests have the same time, so deadlines pass in order."""
        while self._deadlines and self._deadlines[0].outcome:
            self._deadlines.popleft()
        if self._watching or not self._deadlines:
            return
        self._watching = True
        life = self._life

        def passed() -> None:
            if life != self._life:
                return
            self._watching = False
            while self._deadlines and (self._deadlines[0].outcome or self._deadlines[0].deadline <= self._clock.now):
                self._pass(self._deadlines.popleft())
            self._watch()

        self._clock.at(self._deadlines[0].deadline, passed)

    def _pass(self, request: Request) -> None:
        if request.outcome or request.stage == "done":  # a response that is being written is sent
            return
        self._end(request, LATE)
        if request.stage == "queue":
            self._queue.remove(request)
            self._leave(request, 0.0)
