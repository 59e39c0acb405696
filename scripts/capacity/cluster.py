"""Simulation of replicas behind a load balancer, with failures and rolling updates."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from capacity.clock import Clock
from capacity.replica import ANSWERED, LOST, REFUSED, Demand, Process, Replica, Request
from runtime.server.limits import NOTICE_S

Balancing: TypeAlias = Literal["round-robin", "random", "two-choices", "least"]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """``replicas`` die at ``at_s``; the balancer sends to them for ``notice_s`` more.

    They are back ``restart_s`` after they died; by default never.
    """

    at_s: float
    replicas: int
    notice_s: float
    restart_s: float = float("inf")


@dataclass(frozen=True, kw_only=True)
class Update:
    """From ``at_s`` on, one replica after the other drains, stops, and is replaced ``start_s`` later."""

    at_s: float
    start_s: float
    replicas: int


Incident: TypeAlias = Loss | Update


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcomes and latencies of the requests that arrived after the warm-up.

    ``arrived`` and ``latency_s`` are float64, one entry for each request that was answered, in the order of the
    answers. ``cores``, ``loop`` and ``device`` are the busy shares of the cores, event loops and devices that were
    there. ``incident_s`` is when the first incident began and the last one was over; both 0 without any.
    """

    counts: dict[str, int]
    arrived: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    seconds: float
    cores: float
    loop: float
    device: float
    incident_s: tuple[float, float] = (0.0, 0.0)

    @property
    def offered(self) -> int:
        """Number of requests that arrived."""
        return sum(self.counts.values())

    def share(self, outcome: str) -> float:
        """Return the share of the requests with this outcome."""
        return self.counts.get(outcome, 0) / self.offered if self.offered else 0.0

    def quantile_ms(self, share: float) -> float:
        """Return the latency quantile of the answered requests, in milliseconds."""
        if not len(self.latency_s):
            return float("inf")
        return float(np.quantile(self.latency_s, share)) * 1000

    def within_ms(self, share: float) -> float:
        """Return the milliseconds within which this share of all requests but the lost ones was answered.

        A refused or late request counts as never answered: the result is infinite where there are too many of them.
        """
        counted = self.offered - self.counts.get(LOST, 0)
        needed = share * counted
        if not counted or needed > len(self.latency_s):
            return float("inf")
        return float(np.quantile(self.latency_s, min(1.0, needed / len(self.latency_s)))) * 1000


@dataclass(kw_only=True)
class _Backend:
    """A replica as the balancer knows it; ``away_s`` is its past downtime, ``away_from`` when the present one began."""

    replica: Replica
    alive: bool = True
    away_s: float = 0.0
    away_from: float | None = None

    def present_s(self, seconds: float) -> float:
        """Return its uptime within the simulation, in seconds."""
        away_s = self.away_s + (0.0 if self.away_from is None else max(0.0, seconds - self.away_from))
        return max(0.0, seconds - away_s)


@dataclass(kw_only=True)
class _Tally:
    warm_from: float
    counts: Counter[str] = field(default_factory=Counter)
    arrived: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    last: float = 0.0

    def add(self, request: Request) -> None:
        self.last = max(self.last, request.ended)
        if request.arrived < self.warm_from:
            return
        self.counts[request.outcome] += 1
        if request.outcome == ANSWERED:
            self.arrived.append(request.arrived)
            self.latency.append(request.ended - request.arrived)


def simulate(
    process: Process,
    *,
    replicas: int,
    arrivals: Sequence[float],
    demands: Sequence[Demand],
    balancing: Balancing = "round-robin",
    seed: int = 0,
    warm_s: float = 0.0,
    incidents: Sequence[Incident] = (),
) -> Outcome:
    """Return the outcome of requests at the times ``arrivals``, in seconds from 0 and sorted, on ``replicas``.

    Request ``i`` takes ``demands[i]``. Requests that arrive before ``warm_s`` are served but not counted. Every request
    ends in exactly one outcome; the same arguments give the same result.
    """
    clock = Clock()
    tally = _Tally(warm_from=warm_s)
    backends = [_Backend(replica=Replica(clock, process, tally.add)) for _ in range(replicas)]
    fleet = _Fleet(clock, backends, balancing, seed, len(arrivals))
    deadline_s = process.limits.deadline_s
    index = 0

    def arrive() -> None:
        nonlocal index
        request = Request(clock, demands[index], deadline_s)
        index += 1
        if index < len(arrivals):
            clock.at(arrivals[index], arrive)
        backend = fleet.choose()
        if backend is None or not backend.alive:
            request.outcome = REFUSED if backend is None else LOST
            request.ended = clock.now
            tally.add(request)
            return
        backend.replica.arrive(request)

    if len(arrivals):
        clock.at(arrivals[0], arrive)
    for incident in incidents:
        fleet.plan(incident)
    clock.run()
    seconds = max(float(arrivals[-1]), tally.last) if len(arrivals) else 0.0
    width = len(process.speeds)
    share = sum(backend.present_s(seconds) for backend in backends) or 1.0
    return Outcome(
        counts=dict(tally.counts),
        arrived=np.array(tally.arrived),
        latency_s=np.array(tally.latency),
        seconds=seconds,
        cores=sum(backend.replica.cores.busy_s for backend in backends) / share / width,
        loop=sum(backend.replica.loop_busy_s for backend in backends) / share,
        device=sum(backend.replica.device_busy_s for backend in backends) / share,
        incident_s=(min((incident.at_s for incident in incidents), default=0.0), fleet.settled_s),
    )


class _Fleet:
    """The replicas, those of them that the balancer sends to, and what incidents do to them."""

    def __init__(self, clock: Clock, backends: list[_Backend], balancing: Balancing, seed: int, requests: int) -> None:
        self._clock = clock
        self._backends = backends
        self._known = list(backends)
        self._turn = 0
        generator = np.random.default_rng([seed, 2])
        self._draws: list[float] = (
            generator.random(2 * requests).tolist() if balancing in {"random", "two-choices"} else []
        )
        self.choose: Callable[[], _Backend | None] = {
            "round-robin": self._in_turn,
            "random": self._any,
            "two-choices": self._better_of_two,
            "least": self._least,
        }[balancing]
        self.settled_s = 0.0

    def _in_turn(self) -> _Backend | None:
        if not self._known:
            return None
        self._turn += 1
        return self._known[self._turn % len(self._known)]

    def _any(self) -> _Backend | None:
        return self._known[int(self._draws.pop() * len(self._known))] if self._known else None

    def _better_of_two(self) -> _Backend | None:
        first, second = self._any(), self._any()
        if first is None or second is None:
            return None
        return first if first.replica.outstanding <= second.replica.outstanding else second

    def _least(self) -> _Backend | None:
        if not self._known:
            return None
        self._turn += 1
        turn = self._turn % len(self._known)
        return min(self._known[turn:] + self._known[:turn], key=lambda backend: backend.replica.outstanding)

    def plan(self, incident: Incident) -> None:
        """Schedule an incident."""
        if isinstance(incident, Loss):
            self._clock.at(incident.at_s, lambda: self._lose(incident))
        else:
            self._clock.at(incident.at_s, lambda: self._update(incident, 0))

    def _lose(self, loss: Loss) -> None:
        lost = self._known[: loss.replicas]
        for backend in lost:
            backend.alive = False
            backend.away_from = self._clock.now
            backend.replica.crash()
        self._clock.at(self._clock.now + loss.notice_s, lambda: self._forget(lost))
        if loss.restart_s < float("inf"):
            self._clock.at(self._clock.now + max(loss.restart_s, loss.notice_s), lambda: self._return(lost))

    def _forget(self, backends: Sequence[_Backend]) -> None:
        self._known = [backend for backend in self._known if backend not in backends]

    def _return(self, backends: Sequence[_Backend]) -> None:
        for backend in backends:
            backend.alive = True
            if backend.away_from is not None:
                backend.away_s += self._clock.now - backend.away_from
                backend.away_from = None
        self._known.extend(backends)
        self.settled_s = max(self.settled_s, self._clock.now)

    def _update(self, update: Update, index: int) -> None:
        if index == min(update.replicas, len(self._backends)):
            self.settled_s = max(self.settled_s, self._clock.now)
            return
        backend = self._backends[index]
        self._forget([backend])
        self._clock.at(self._clock.now + NOTICE_S, lambda: self._drain(update, index))

    def _drain(self, update: Update, index: int) -> None:
        """Poll until the last request has its response, as the server does."""
        backend = self._backends[index]
        if backend.replica.outstanding:
            self._clock.at(self._clock.now + 0.01, lambda: self._drain(update, index))
            return

        backend.away_from = self._clock.now

        def started() -> None:
            self._return([backend])
            self._update(update, index + 1)

        self._clock.at(self._clock.now + update.start_s, started)
