"""Replicas behind a load balancer in simulated time, some lost or updated, and what came of each request."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.capacity.clock import Clock
from runtime.capacity.replica import ANSWERED, LOST, REFUSED, Demand, Process, Replica, Request

Balancing: TypeAlias = Literal["round-robin", "random", "two-choices", "least"]

# A server that was told to stop says that it is not ready, and goes on for a moment: the balancer learns of it.
_NOTICE_S = 0.5


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
    """What came of the requests that arrived after the warm-up.

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
        """How many requests came."""
        return sum(self.counts.values())

    def share(self, outcome: str) -> float:
        """Return the share of the requests that came to this."""
        return self.counts.get(outcome, 0) / self.offered if self.offered else 0.0

    def quantile_ms(self, share: float) -> float:
        """Return the milliseconds within which this share of the answered requests was answered."""
        if not len(self.latency_s):
            return float("inf")
        return float(np.quantile(self.latency_s, share)) * 1000

    def within_ms(self, share: float) -> float:
        """Return the milliseconds within which this share of all requests was answered, but for the lost ones.

        A request that was refused or late never was: infinite where these are too many.
        """
        asked = self.offered - self.counts.get(LOST, 0)
        wanted = share * asked
        if not asked or wanted > len(self.latency_s):
            return float("inf")
        return float(np.quantile(self.latency_s, min(1.0, wanted / len(self.latency_s)))) * 1000


@dataclass(kw_only=True)
class _Place:
    """A replica as the balancer knows it; ``away_s`` is how long there was none, and ``away_from`` since when."""

    replica: Replica
    alive: bool = True
    away_s: float = 0.0
    away_from: float | None = None

    def present_s(self, seconds: float) -> float:
        """Return for how many of the simulation's seconds it was there."""
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
    """Return what becomes of requests at the times ``arrivals``, in seconds from 0 and sorted, on ``replicas``.

    The request at position ``i`` takes ``demands[i]``. Those that arrive before ``warm_s`` are served, not counted.
    Every request ends in exactly one outcome; the same arguments give the same result.
    """
    clock = Clock()
    tally = _Tally(warm_from=warm_s)
    places = [_Place(replica=Replica(clock, process, tally.add)) for _ in range(replicas)]
    fleet = _Fleet(clock, places, balancing, seed, len(arrivals))
    deadline_s = process.limits.deadline_s
    position = 0

    def arrive() -> None:
        nonlocal position
        request = Request(clock, demands[position], deadline_s)
        position += 1
        if position < len(arrivals):
            clock.at(arrivals[position], arrive)
        place = fleet.choose()
        if place is None or not place.alive:
            request.outcome = REFUSED if place is None else LOST
            request.ended = clock.now
            tally.add(request)
            return
        place.replica.arrive(request)

    if len(arrivals):
        clock.at(arrivals[0], arrive)
    for incident in incidents:
        fleet.plan(incident)
    clock.run()
    seconds = max(float(arrivals[-1]), tally.last) if len(arrivals) else 0.0
    width = len(process.speeds)
    share = sum(place.present_s(seconds) for place in places) or 1.0
    return Outcome(
        counts=dict(tally.counts),
        arrived=np.array(tally.arrived),
        latency_s=np.array(tally.latency),
        seconds=seconds,
        cores=sum(place.replica.cores.busy_s for place in places) / share / width,
        loop=sum(place.replica.loop_busy_s for place in places) / share,
        device=sum(place.replica.device_busy_s for place in places) / share,
        incident_s=(min((one.at_s for one in incidents), default=0.0), fleet.settled_s),
    )


class _Fleet:
    """The replicas that the balancer sends to, and those that come and go."""

    def __init__(self, clock: Clock, places: list[_Place], balancing: Balancing, seed: int, requests: int) -> None:
        self._clock = clock
        self._places = places
        self._known = list(places)
        self._turn = 0
        chance = np.random.default_rng([seed, 2])
        self._chances: list[float] = (
            chance.random(2 * requests).tolist() if balancing in {"random", "two-choices"} else []
        )
        self.choose: Callable[[], _Place | None] = {
            "round-robin": self._in_turn,
            "random": self._any,
            "two-choices": self._better_of_two,
            "least": self._least,
        }[balancing]
        self.settled_s = 0.0

    def _in_turn(self) -> _Place | None:
        if not self._known:
            return None
        self._turn += 1
        return self._known[self._turn % len(self._known)]

    def _any(self) -> _Place | None:
        return self._known[int(self._chances.pop() * len(self._known))] if self._known else None

    def _better_of_two(self) -> _Place | None:
        first, second = self._any(), self._any()
        if first is None or second is None:
            return None
        return first if first.replica.outstanding <= second.replica.outstanding else second

    def _least(self) -> _Place | None:
        if not self._known:
            return None
        self._turn += 1
        turn = self._turn % len(self._known)
        return min(self._known[turn:] + self._known[:turn], key=lambda place: place.replica.outstanding)

    def plan(self, incident: Incident) -> None:
        """Set what an incident does."""
        if isinstance(incident, Loss):
            self._clock.at(incident.at_s, lambda: self._lose(incident))
        else:
            self._clock.at(incident.at_s, lambda: self._update(incident, 0))

    def _lose(self, loss: Loss) -> None:
        lost = self._known[: loss.replicas]
        for place in lost:
            place.alive = False
            place.away_from = self._clock.now
            place.replica.crash()
        self._clock.at(self._clock.now + loss.notice_s, lambda: self._forget(lost))
        if loss.restart_s < float("inf"):
            self._clock.at(self._clock.now + max(loss.restart_s, loss.notice_s), lambda: self._return(lost))

    def _forget(self, places: Sequence[_Place]) -> None:
        self._known = [place for place in self._known if place not in places]

    def _return(self, places: Sequence[_Place]) -> None:
        for place in places:
            place.alive = True
            if place.away_from is not None:
                place.away_s += self._clock.now - place.away_from
                place.away_from = None
        self._known.extend(places)
        self.settled_s = max(self.settled_s, self._clock.now)

    def _update(self, update: Update, position: int) -> None:
        if position == min(update.replicas, len(self._places)):
            self.settled_s = max(self.settled_s, self._clock.now)
            return
        place = self._places[position]
        self._forget([place])
        self._clock.at(self._clock.now + _NOTICE_S, lambda: self._drain(update, position))

    def _drain(self, update: Update, position: int) -> None:
        """Look again and again whether the last request has its answer, as the server does."""
        place = self._places[position]
        if place.replica.outstanding:
            self._clock.at(self._clock.now + 0.01, lambda: self._drain(update, position))
            return

        place.away_from = self._clock.now

        def started() -> None:
            self._return([place])
            self._update(update, position + 1)

        self._clock.at(self._clock.now + update.start_s, started)
