"""One server process in simulated time, by the rules of the real one: ``runtime.server``.

Who is let in is decided by the real ``Admission``, and which session serves a lone input by the real
``SessionChooser``. What is simplified: Python's lock is the event loop's single thread alone, a deadline is looked at
before a job begins and before its network, not also between decoding and geometry, and a refusal costs as much of the
event loop as an answer.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from runtime.capacity.clock import Clock, Cores
from runtime.errors import BusyError
from runtime.server.admission import Admission
from runtime.server.errors import LateError
from runtime.server.limits import Limits
from runtime.server.served_model import SessionChooser

# What becomes of a request: exactly one of these.
ANSWERED, REFUSED, LATE, LOST = "answered", "refused", "late", "lost"

# The two sessions, where the server's SessionChooser has models.
_NARROW, _WIDE = "single-threaded", "multi-threaded"


class Demand(NamedTuple):
    """What one request takes, in seconds: of the event loop before and after, of a worker, of the network.

    ``network`` is on one thread, ``wide`` on all cores. ``outside`` is time in which nobody here works: sockets and the
    handing over between threads.
    """

    receive: float
    prepare: float
    network: float
    wide: float
    answer: float
    outside: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """A server process: ``workers`` threads and an event loop on cores of these ``speeds`` (see ``Cores``).

    ``wide_threads`` is how many cores a lone input's network runs on; 1 where there is one session alone.
    ``batch_s`` is the seconds of the network by batch size, where requests run in batches on an accelerator.
    """

    workers: int
    speeds: Sequence[float]
    limits: Limits = field(default_factory=Limits)
    wide_threads: int = 1
    batch_s: Mapping[int, float] = field(default_factory=dict)


class Request:
    """One request on its way; also the ``Deadline`` that admission checks."""

    __slots__ = ("arrived", "busy_s", "clock", "deadline", "demand", "ended", "outcome", "place")

    def __init__(self, clock: Clock, demand: Demand, deadline_s: float) -> None:
        self.clock = clock
        self.demand = demand
        self.arrived = clock.now
        self.deadline = clock.now + deadline_s
        self.ended = 0.0
        self.outcome = ""
        self.place = ""
        self.busy_s = 0.0

    def remaining_s(self) -> float:
        """Return the seconds until the deadline."""
        return self.deadline - self.clock.now

    def check(self) -> None:
        """Raise LateError when the deadline has passed."""
        if self.deadline <= self.clock.now:
            raise LateError("late")


class Replica:
    """A running server process; ``ended`` is called with each request when its outcome is known."""

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
        self._lone = SessionChooser(_NARROW, _WIDE if process.wide_threads > 1 else _NARROW)
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
        """Take a request from the network."""
        self.outstanding += 1
        self._inside.add(request)
        request.place = "door"
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
        """Lose everything inside, as a process does that is killed."""
        lost = list(self._inside)
        self.cores.clear()
        self._start_empty()
        for request in lost:
            if not request.outcome:
                self._end(request, LOST)

    def _on_loop(self, work_s: float, then: Callable[[], None]) -> None:
        """Run something on the event loop's thread, after what waits there."""
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
            request.place = "done"
            self._on_loop(request.demand.answer, lambda: self._end(request, REFUSED))
            return
        except LateError:
            return  # at this very moment, its deadline ends it
        request.place = "queue"
        self._queue.append(request)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue and self._running < self._process.workers:
            request = self._queue.popleft()
            self._running += 1
            request.place = "worker"
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
        session = self._lone.choose() if alone else _NARROW
        began = self._clock.now

        def done() -> None:
            seconds = self._clock.now - began
            if alone:
                self._lone.record(session, seconds, overlapped=not self._is_alone())
            self._answer(request, request.busy_s + seconds)
            self._free_worker()

        if session is _WIDE:
            threads = self._process.wide_threads
            # It was measured with all of its threads at work: undo the slowness that they are given again here.
            work_s = request.demand.wide * self._process.speeds[min(threads, len(self._process.speeds)) - 1]
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
                self._answer(request, request.busy_s + seconds / len(batch))
            self._feed_device()

        self._clock.at(self._clock.now + seconds, done)

    def _answer(self, request: Request, busy_s: float) -> None:
        self._leave(request, busy_s)
        if not request.outcome:
            self._on_loop(request.demand.answer, lambda: self._end(request, ANSWERED))

    def _leave(self, request: Request, busy_s: float) -> None:
        request.place = "done"
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
        """Set an event for the earliest deadline: all requests are allowed the same time, so they pass in order."""
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
        if request.outcome or request.place == "done":  # an answer that is being written is sent
            return
        self._end(request, LATE)
        if request.place == "queue":
            self._queue.remove(request)
            self._leave(request, 0.0)
