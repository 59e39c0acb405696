"""Simulated time: an event queue, and cores shared by threads."""

import heapq
from collections.abc import Callable, Sequence

Then = Callable[[], None]

# Work that is this close to its end has ended: sums of floating-point numbers leave a rest.
_DONE_S = 1e-12


class Clock:
    """A queue of events; those of one moment happen in the order in which they were set."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._count = 0

    def at(self, time: float, then: Then) -> None:
        """Call ``then`` at ``time``, in seconds; a time that has passed means now."""
        self._count += 1
        heapq.heappush(self._events, (max(time, self.now), self._count, then))

    def run(self) -> None:
        """Process all events, including those that events add."""
        events = self._events
        while events:
            self.now, _, then = heapq.heappop(events)
            then()


class Cores:
    """Processor sharing: all busy threads advance at the same speed, which depends on their number.

    ``speeds[n - 1]`` is the speed of each of ``n`` threads, 1 for a thread with no other beside it; beyond the end of
    the list the last entry's total is shared. The work that each thread has received so far is one number for all of
    them, so an event costs the logarithm of the number of threads.
    """

    def __init__(self, clock: Clock, speeds: Sequence[float]) -> None:
        self._clock = clock
        self._speeds = list(speeds)
        self._total = self._speeds[-1] * len(self._speeds)
        self._received_s = 0.0
        self._since = 0.0
        self._threads = 0
        self._tasks: list[tuple[float, int, int, Then]] = []
        self._count = 0
        self._version = 0
        self.busy_s = 0.0

    def start(self, work_s: float, then: Then, *, threads: int = 1) -> None:
        """Begin ``work_s`` seconds of work on each of ``threads`` threads, and call ``then`` when it is done."""
        if work_s <= 0:
            then()
            return
        self._advance()
        self._count += 1
        self._threads += threads
        heapq.heappush(self._tasks, (self._received_s + work_s, self._count, threads, then))
        self._schedule()

    def clear(self) -> None:
        """Drop all work, as a process does that is killed."""
        self._advance()
        self._tasks.clear()
        self._threads = 0
        self._version += 1

    def _speed(self) -> float:
        count = self._threads
        return self._speeds[count - 1] if count <= len(self._speeds) else self._total / count

    def _advance(self) -> None:
        now = self._clock.now
        if self._threads:
            elapsed = now - self._since
            self._received_s += elapsed * self._speed()
            self.busy_s += elapsed * min(self._threads, len(self._speeds))
        else:
            self._received_s = 0.0
        self._since = now

    def _schedule(self) -> None:
        self._version += 1
        if self._tasks:
            version = self._version
            rest = max(0.0, self._tasks[0][0] - self._received_s)
            self._clock.at(self._clock.now + rest / self._speed(), lambda: self._finish(version))

    def _finish(self, version: int) -> None:
        if version != self._version:  # threads came or went since: another event stands for them
            return
        self._advance()
        # The event's own task is done, whatever the rounding of a long simulation says.
        done = [heapq.heappop(self._tasks)]
        while self._tasks and self._tasks[0][0] <= self._received_s + _DONE_S:
            done.append(heapq.heappop(self._tasks))
        self._threads -= sum(threads for _, _, threads, _ in done)
        self._schedule()
        for _, _, _, then in done:
            then()
