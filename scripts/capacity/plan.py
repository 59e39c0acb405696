"""Number of replicas for a rate, their behavior in incidents, and what breaks first."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from capacity import arrivals
from capacity.arrivals import Times
from capacity.cluster import Balancing, Incident, Loss, Outcome, Update, simulate
from capacity.measurement import Measurement
from capacity.replica import LATE, LOST, REFUSED
from capacity.simulation_inputs import core_ms, demands_of, most_per_s, process_of
from runtime.errors import InputError
from runtime.server.limits import MIB, Limits

# The target is about this share of all requests; a refused request counts as not answered.
SHARE = 0.99

# The most replicas that are simulated, with their share of the rate: each then has the arrivals that it has among more
# of them, and the same number of requests lasts longer. Under 'random' replicas are independent, so fewer suffice.
MOST_SIMULATED = {"random": 4, "round-robin": 16, "two-choices": 16, "least": 16}

# Where the rate itself rises and falls, a simulation has to last longer: still fewer replicas.
_MOST_UNEVEN = 2

# The first tenth of the requests fills the queues.
_WARM_SHARE = 0.1

# How long balancers go on sending to a dead replica. Active probes take 20 s in Kubernetes' default (two of one every
# 10 s) and 1 to 2 s in most proxies; connections to a dead process fail at once, and passive checks act on that.
_NOTICE_S = 2.0
_UPDATED = 3

# The highest planned utilization. Above it queues grow so slowly that no simulation is long enough to show it.
_FULLEST = 0.95

# Resolution of the search for rates, the share of refusals that is ignored, and the overload that is shown.
_STEP = 1.03
_FEW = 0.001
_BEYOND = 1.5

Breaking: TypeAlias = Literal["p99", "429", "504"]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The target: ``SHARE`` of ``rate`` requests per second answered within ``p99_ms``.

    ``trace`` returns arrival times for a rate, a count and a random generator. ``tolerate_failures`` is the number of
    replicas that may fail at the same time. ``headroom`` is the share above the rate for which the advice must hold,
    as the prediction may be off by as much. Prices are per hour, 0 where there is none. ``requests`` is the length of
    each simulation; the default leaves 150 beyond the 99th percentile.
    """

    rate: float
    p99_ms: float
    trace: Callable[[float, int, np.random.Generator], Times] = arrivals.poisson
    balancing: Balancing = "round-robin"
    limits: Limits = field(default_factory=Limits)
    tolerate_failures: int = 1
    headroom: float = 0.2
    core_price: float = 0.0
    machine_price: float = 0.0
    seed: int = 0
    requests: int = 16_500


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes of the requests at a rate; times in milliseconds, of the answered ones.

    ``within_ms`` is the time within which ``SHARE`` of all requests but the lost ones were answered; None where never.
    ``cores``, ``loop`` and ``device`` are utilizations.
    """

    rate: float
    replicas: int
    p50_ms: float
    p99_ms: float
    within_ms: float | None
    refused: float
    late: float
    lost: float
    cores: float
    loop: float
    device: float


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """What breaks first above the planned rate.

    ``rate`` is the highest rate at which the target is met. ``first`` is why it is missed above: ``p99``, responses
    that come too late; ``429``, refusals; ``504``, deadlines. ``bottleneck`` is the busiest part then, and ``stage``
    what most of its time goes to. ``refuses_from`` is the rate from which more than one in a thousand is refused; None
    where none is at any rate. ``beyond`` is the load at 1.5 times the capacity, once the queues are full.
    """

    rate: float
    first: Breaking
    bottleneck: str
    stage: str
    refuses_from: float | None
    beyond: Load


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The advice: ``replicas``, which meet the target with ``headroom``, with failures and during an update.

    ``least_replicas`` suffice for the rate without incidents. Memory is in megabytes: ``resident_mb`` of the replicas
    in use, ``waiting_mb`` what full queues add. ``ingress_gbit_s`` and ``egress_gbit_s`` are bodies and responses
    alone. Costs are None without a price.
    """

    rate: float
    p99_ms: float
    headroom: float
    least_replicas: int
    replicas: int
    replica_cores: int
    cores: int
    machines: int
    resident_mb: float
    waiting_mb: float
    ingress_gbit_s: float
    egress_gbit_s: float
    artifact_copies_gb: float
    steady: Load
    losing: Load | None
    updating: Load
    update_s: float
    breaks: Break
    cost_per_hour: float | None
    cost_per_million: float | None


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The plan, and the measurement and options that it follows from."""

    arrivals: str
    balancing: Balancing
    seed: int
    measured: Measurement
    plan: Plan


def plan(measured: Measurement, goal: Goal) -> Plan:
    """Return the plan for ``goal``; raises InputError where no number of replicas can meet it."""
    fleet = _Fleet(measured, goal)
    fleet.check_possible()
    least = fleet.least(goal.rate, lambda count: fleet.meets(fleet.steady(count, goal.rate)))
    padded = goal.rate * (1 + goal.headroom)

    def holds(count: int) -> bool:
        if count <= goal.tolerate_failures:
            return False
        if goal.tolerate_failures and not fleet.meets(fleet.losing(count, padded)):
            return False
        return fleet.meets(fleet.updating(count, padded)[0])

    replicas = fleet.least(padded, holds, start=least)
    updating, each_s = fleet.updating(replicas, goal.rate)
    cores = replicas * measured.process_cores
    machines = math.ceil(cores / measured.cores)
    hourly = cores * goal.core_price + machines * goal.machine_price
    in_bytes, out_bytes = bytes_each(measured)
    return Plan(
        rate=goal.rate,
        p99_ms=goal.p99_ms,
        headroom=goal.headroom,
        least_replicas=least,
        replicas=replicas,
        replica_cores=measured.process_cores,
        cores=cores,
        machines=machines,
        resident_mb=replicas * measured.server.resident_mb,
        waiting_mb=replicas * min(goal.limits.queue * in_bytes, goal.limits.held_bytes) / MIB,
        ingress_gbit_s=goal.rate * in_bytes * 8 / 1e9,
        egress_gbit_s=goal.rate * out_bytes * 8 / 1e9,
        artifact_copies_gb=machines * measured.artifact_bytes / 1e9,
        steady=fleet.load(fleet.steady(replicas, goal.rate), goal.rate, replicas),
        losing=fleet.load(fleet.losing(replicas, goal.rate), goal.rate, replicas) if goal.tolerate_failures else None,
        updating=fleet.load(updating, goal.rate, replicas),
        update_s=each_s * replicas,
        breaks=fleet.breaks(replicas),
        cost_per_hour=hourly or None,
        cost_per_million=hourly / (goal.rate * 3600) * 1e6 if hourly else None,
    )


def bytes_each(measured: Measurement) -> tuple[float, float]:
    """Return the mean bytes of a request's body and of a response, without the packets around them."""
    return float(np.mean([times.size_bytes for times in measured.inputs])), float(measured.server.response_bytes)


def replica_rate(measured: Measurement, goal: Goal) -> float:
    """Return the highest rate of one replica among many at which the target of ``goal`` is met.

    Raises InputError where there is none.
    """
    fleet = _Fleet(measured, goal)
    fleet.check_possible()
    replicas = MOST_SIMULATED[goal.balancing]
    # check_possible has shown this rate to be possible for Poisson arrivals; bursts may make even that too much.
    low = min(most_per_s(measured).values()) * replicas / 100
    if not fleet.meets(fleet.steady(replicas, low)):
        raise InputError(
            f"--p99-ms {goal.p99_ms:g}: cannot be met for arrivals like these even by nearly idle replicas. Raise it, "
            "or change --arrivals."
        )
    full = min(most_per_s(measured).values()) * replicas
    return fleet.highest(low, _FULLEST * full, lambda rate: fleet.meets(fleet.steady(replicas, rate))) / replicas


class _Fleet:
    """Simulations for one goal, each run once."""

    def __init__(self, measured: Measurement, goal: Goal) -> None:
        self._measured = measured
        self._goal = goal
        self._process = process_of(measured, goal.limits)
        self._demands = demands_of(measured, goal.requests, seed=goal.seed)
        most = MOST_SIMULATED[goal.balancing]
        self._simulated = most if goal.trace is arrivals.poisson else min(most, _MOST_UNEVEN)
        self._most = min(most_per_s(measured).values())
        self._steady: dict[tuple[int, float], Outcome] = {}
        self._updating: dict[tuple[int, float], tuple[Outcome, float]] = {}
        self._losing: dict[tuple[int, float], Outcome] = {}

    def meets(self, outcome: Outcome) -> bool:
        """Return whether the target is met."""
        return outcome.within_ms(SHARE) <= self._goal.p99_ms

    def check_possible(self) -> None:
        """Raise InputError where even a nearly idle replica is too slow."""
        few = self._most / 100
        times = arrivals.poisson(few, 2000, np.random.default_rng([self._goal.seed, 0])).tolist()
        lone = simulate(self._process, replicas=1, arrivals=times, demands=self._demands, seed=self._goal.seed)
        if not self.meets(lone):
            raise InputError(
                f"--p99-ms {self._goal.p99_ms:g}: cannot be met by any number of replicas: expected at least "
                f"{lone.within_ms(SHARE):.1f}, the time of a lone request on {self._process.workers} cores "
                "here. Raise it, measure a faster machine, or export a smaller network."
            )

    def least(self, rate: float, holds: Callable[[int], bool], *, start: int = 1) -> int:
        """Return the smallest number of replicas for which ``holds`` is true, to within 1%."""
        low = max(start, math.ceil(rate / (_FULLEST * self._most)))
        if holds(low):
            return low
        step = max(1, low // 50)
        high = low + step
        while not holds(high):
            low, step = high, 2 * step
            high += step
            if high > 100 * (1 + rate / self._most):
                raise InputError(
                    f"--p99-ms {self._goal.p99_ms:g}: cannot be met for arrivals like these: {high} replicas are too "
                    "few, a hundred times what the work alone needs. Raise it, or change --arrivals."
                )
        while high - low > max(1, high // 100):
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle) else (middle, high)
        return high

    def steady(self, replicas: int, rate: float) -> Outcome:
        """Return the outcome without incidents."""
        key = replicas, rate
        if key not in self._steady:
            simulated = min(replicas, self._simulated)
            self._steady[key] = self._simulate(simulated, rate * simulated / replicas)
        return self._steady[key]

    def losing(self, replicas: int, whole_rate: float) -> Outcome:
        """Return the outcome from the moment on in which replicas fail and do not come back."""
        key = replicas, whole_rate
        if key not in self._losing:
            tolerate_failures = self._goal.tolerate_failures
            simulated = min(replicas, max(self._simulated, tolerate_failures + 1))
            # Each of the remaining replicas then has its true share.
            rate = whole_rate * (simulated - tolerate_failures) / (replicas - tolerate_failures)
            begin = self._goal.requests * _WARM_SHARE / rate
            loss = Loss(at_s=begin, replicas=tolerate_failures, notice_s=min(_NOTICE_S, begin))
            self._losing[key] = self._simulate(simulated, rate, incidents=(loss,))
        return self._losing[key]

    def updating(self, replicas: int, whole_rate: float) -> tuple[Outcome, float]:
        """Return the outcome while replicas are replaced one after the other, and the seconds for each."""
        key = replicas, whole_rate
        if key not in self._updating:
            simulated = min(replicas, self._simulated)
            missing = 1 if simulated > 1 else 0
            rate = whole_rate * (simulated - missing) / (replicas - missing)
            begin = self._goal.requests * _WARM_SHARE / rate
            update = Update(at_s=begin, start_s=self._measured.server.start_s, replicas=min(_UPDATED, simulated))
            outcome = self._simulate(simulated, rate, incidents=(update,))
            first, last = outcome.incident_s
            self._updating[key] = outcome, (last - first) / update.replicas
        return self._updating[key]

    def load(self, outcome: Outcome, rate: float, replicas: int) -> Load:
        """Return the figures of an outcome."""
        within = outcome.within_ms(SHARE)
        return Load(
            rate=rate,
            replicas=replicas,
            p50_ms=outcome.quantile_ms(0.5),
            p99_ms=outcome.quantile_ms(0.99),
            within_ms=within if math.isfinite(within) else None,
            refused=outcome.share(REFUSED),
            late=outcome.share(LATE),
            lost=outcome.share(LOST),
            cores=outcome.cores,
            loop=outcome.loop,
            device=outcome.device,
        )

    def breaks(self, replicas: int) -> Break:
        """Return what breaks first as the rate rises."""
        full = self._most * replicas
        last = self.highest(self._goal.rate, _FULLEST * full, lambda rate: self.meets(self.steady(replicas, rate)))
        beyond = self._overloaded(replicas, _BEYOND * full)
        broken = self.steady(replicas, last * _STEP)
        if self.meets(broken):  # up to where the queues only grow
            broken = beyond
        first: Breaking = "p99"
        if broken.quantile_ms(SHARE) <= self._goal.p99_ms:
            first = "429" if broken.share(REFUSED) >= broken.share(LATE) else "504"
        shares = {"cores": beyond.cores, "event loop": beyond.loop, "device": beyond.device}
        bottleneck = max(shares, key=lambda name: shares[name])
        stages = core_ms(self._measured)
        stage = max(stages, key=lambda name: stages[name]) if bottleneck == "cores" else bottleneck
        refuses_from = None
        if beyond.share(REFUSED) > _FEW:
            # Any rate that is too much fills the queues in the end, however long they are.
            refuses_from = self.highest(
                last, max(last, full), lambda rate: self.steady(replicas, rate).share(REFUSED) <= _FEW
            )
        return Break(
            rate=last,
            first=first,
            bottleneck=bottleneck,
            stage={"device": "network", "event loop": "server"}.get(stage, stage),
            refuses_from=refuses_from,
            beyond=self.load(beyond, _BEYOND * full, replicas),
        )

    def highest(self, low: float, high: float, holds: Callable[[float], bool]) -> float:
        """Return the highest rate up to ``high``, to within ``_STEP``, for which ``holds`` is true, as for ``low``."""
        if high <= low or holds(high):
            return high if high > low else low
        while high / low > _STEP:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if holds(middle) else (low, middle)
        return low

    def _overloaded(self, replicas: int, rate: float) -> Outcome:
        """Return the outcome of an overload once the queues are full; few replicas, so that they fill soon."""
        simulated = min(replicas, self._simulated, MOST_SIMULATED["random"])
        return self._simulate(simulated, rate * simulated / replicas, warm_share=0.5)

    def _simulate(
        self, replicas: int, rate: float, incidents: tuple[Incident, ...] = (), warm_share: float = _WARM_SHARE
    ) -> Outcome:
        goal = self._goal
        times = goal.trace(rate, goal.requests, np.random.default_rng([goal.seed, 0])).tolist()
        warm_s = incidents[0].at_s if incidents else times[int(goal.requests * warm_share)]
        return simulate(
            self._process,
            replicas=replicas,
            arrivals=times,
            demands=self._demands,
            balancing=goal.balancing,
            seed=goal.seed,
            warm_s=warm_s,
            incidents=incidents,
        )
