"""The simulation agrees with queueing theory where that has a formula, and loses count of no request anywhere."""

import math

import numpy as np
import pytest

from capacity import arrivals
from capacity.cluster import Loss, Outcome, Update, simulate
from capacity.replica import Demand, Process
from runtime.server.limits import Limits

# A server that never refuses and never is late.
ENDLESS = Limits(queue=10**9, deadline_s=1e9)
COUNT = 40_000


def process(cores: int = 1, *, workers: int | None = None, limits: Limits = ENDLESS, **more: object) -> Process:
    return Process(workers=workers or cores, speeds=[1.0] * cores, limits=limits, **more)


def demands(network_s: list[float]) -> list[Demand]:
    return [Demand(receive=0.0, prepare=0.0, network=one, all_cores=one, respond=0.0) for one in network_s]


def queue(cores: int, load: float, network_s: list[float], *, limits: Limits = ENDLESS, replicas: int = 1) -> Outcome:
    """Requests that take one second on average, at random, for ``load`` of the cores."""
    generator = np.random.default_rng(7)
    return simulate(
        process(cores, limits=limits),
        replicas=replicas,
        arrivals=arrivals.poisson(load * cores * replicas, len(network_s), generator).tolist(),
        demands=demands(network_s),
        balancing="random",
        warm_s=200,
    )


def exponential(count: int = COUNT) -> list[float]:
    return np.random.default_rng(3).exponential(1.0, count).tolist()


def erlang_c(cores: int, load: float) -> float:
    """The share of requests that wait in M/M/c."""
    offered = load * cores
    waiting = offered**cores / math.factorial(cores) / (1 - load)
    return waiting / (sum(offered**busy / math.factorial(busy) for busy in range(cores)) + waiting)


def test_one_server_with_random_work_is_mm1():
    outcome = queue(1, 0.6, exponential())

    assert outcome.latency_s.mean() == pytest.approx(1 / (1 - 0.6), rel=0.04)
    # The time in M/M/1 is exponential: so are its quantiles.
    assert outcome.quantile_ms(0.99) / 1000 == pytest.approx(-math.log(0.01) / (1 - 0.6), rel=0.06)
    assert outcome.cores == pytest.approx(0.6, rel=0.02)


def test_one_server_with_equal_work_is_md1():
    outcome = queue(1, 0.7, [1.0] * COUNT)

    assert outcome.latency_s.mean() == pytest.approx(1 + 0.7 / (2 * (1 - 0.7)), rel=0.03)


def test_one_server_with_two_kinds_of_work_is_mg1():
    """Pollaczek and Khinchine: waiting grows with the second moment of the work."""
    work = np.random.default_rng(5).choice([0.5, 3.0], COUNT, p=[0.8, 0.2])
    outcome = queue(1, 0.6, work.tolist())

    assert outcome.latency_s.mean() == pytest.approx(1 + 0.6 * np.mean(work**2) / (2 * (1 - 0.6)), rel=0.04)


@pytest.mark.parametrize(("cores", "load"), [(2, 0.8), (8, 0.7)])
def test_several_workers_are_mmc(cores, load):
    outcome = queue(cores, load, exponential())

    assert outcome.latency_s.mean() == pytest.approx(1 + erlang_c(cores, load) / (cores * (1 - load)), rel=0.04)


def test_a_bounded_queue_refuses_as_mm1k_does():
    offered, room = 1.4, 8
    outcome = queue(1, offered, exponential(), limits=Limits(queue=room, deadline_s=1e9))

    refused = (1 - offered) * offered**room / (1 - offered ** (room + 1))
    assert outcome.share("refused") == pytest.approx(refused, rel=0.03)


def test_replicas_behind_a_random_balancer_are_queues_of_their_own():
    outcome = queue(1, 0.6, exponential(), replicas=5)

    assert outcome.latency_s.mean() == pytest.approx(1 / (1 - 0.6), rel=0.04)


def test_threads_that_share_a_core_are_mg1_ps():
    """Processor sharing: the mean time depends on the load alone, whatever the work's distribution."""
    work = np.random.default_rng(5).choice([0.5, 3.0], COUNT, p=[0.8, 0.2])
    outcome = simulate(
        process(1, workers=10**6),
        replicas=1,
        arrivals=arrivals.poisson(0.6, COUNT, np.random.default_rng(7)).tolist(),
        demands=demands(work.tolist()),
        warm_s=200,
    )

    assert outcome.latency_s.mean() == pytest.approx(1 / (1 - 0.6), rel=0.05)


@pytest.mark.parametrize("balancing", ["two-choices", "least"])
def test_a_balancer_that_looks_beats_one_that_does_not(balancing):
    times = arrivals.poisson(0.8 * 4, 10_000, np.random.default_rng(7)).tolist()
    means = {
        name: simulate(
            process(), replicas=4, arrivals=times, demands=demands(exponential(10_000)), balancing=name, warm_s=100
        ).latency_s.mean()
        for name in ("random", balancing)
    }

    assert means[balancing] < 0.7 * means["random"]


def test_slower_busy_cores_saturate_earlier():
    """Two busy cores at half the speed each do what one does."""
    outcome = simulate(
        Process(workers=2, speeds=[1.0, 0.5], limits=Limits(queue=10)),
        replicas=1,
        arrivals=arrivals.poisson(200, 4000, np.random.default_rng(7)).tolist(),
        demands=demands([0.01] * 4000),
        warm_s=1,
    )

    answered_per_s = outcome.counts["answered"] / (outcome.seconds - 1)
    assert answered_per_s == pytest.approx(100, rel=0.02)


def test_batches_on_a_device_carry_what_single_runs_cannot():
    many = [Demand(0.0, 0.001, 0.0, 0.0, 0.0)] * 4000
    times = arrivals.poisson(300, 4000, np.random.default_rng(7)).tolist()
    single, batched = (
        simulate(process(4, limits=Limits(), batch_s=sizes), replicas=1, arrivals=times, demands=many)
        for sizes in ({1: 0.010}, {1: 0.010, 8: 0.010})
    )

    assert single.counts["answered"] / single.seconds == pytest.approx(100, rel=0.05)
    assert batched.counts == {"answered": 4000}
    # A request waits for the run before its own, and then runs.
    assert batched.quantile_ms(0.99) < 25


def test_a_lone_input_has_all_cores_and_two_at_once_do_not():
    def median_ms(gap_s: float) -> float:
        return simulate(
            process(4, lone_threads=4),
            replicas=1,
            arrivals=[number * gap_s for number in range(400)],
            demands=[Demand(0.0, 0.0, 0.100, 0.030, 0.0)] * 400,
            warm_s=10 * gap_s,
        ).quantile_ms(0.5)

    assert median_ms(1.0) == pytest.approx(30)
    assert median_ms(0.050) > 90


def test_the_event_loop_is_one_thread():
    outcome = simulate(
        process(8, limits=Limits(queue=50)),
        replicas=1,
        arrivals=arrivals.poisson(400, 4000, np.random.default_rng(7)).tolist(),
        demands=[Demand(0.004, 0.0, 0.001, 0.001, 0.001)] * 4000,
    )

    assert outcome.loop > 0.98
    assert outcome.seconds > 4000 * 0.005 * 0.98


def test_a_request_ends_at_its_deadline_and_no_later():
    outcome = queue(1, 2.0, [1.0] * 2000, limits=Limits(queue=10**9, deadline_s=20))

    assert outcome.counts["late"] + outcome.counts["refused"] > 600
    assert outcome.quantile_ms(1.0) <= 20_000


def test_a_lost_replica_loses_what_is_inside_and_what_is_still_sent_to_it():
    times = [number * 0.1 for number in range(1000)]
    loss = Loss(at_s=50.05, replicas=1, notice_s=2.0, restart_s=10.0)
    outcome = simulate(
        process(), replicas=2, arrivals=times, demands=demands([0.15] * 1000), warm_s=0, incidents=(loss,)
    )

    # One inside; of 20 that come in 2 s, every other one.
    assert outcome.counts["lost"] == 1 + 10
    assert outcome.incident_s == (50.05, pytest.approx(60.05))
    # What is away is not idle.
    assert outcome.cores == pytest.approx((1000 - 11 - 0.5) * 0.15 / (200 - 10), rel=0.01)


def test_a_rolling_update_loses_nothing_and_takes_one_replica_at_a_time():
    times = [number * 0.1 for number in range(1000)]
    update = Update(at_s=10.0, start_s=5.0, replicas=3)
    outcome = simulate(
        process(limits=Limits()), replicas=3, arrivals=times, demands=demands([0.19] * 1000), incidents=(update,)
    )

    assert outcome.counts == {"answered": 1000}
    assert outcome.incident_s[1] - 10.0 == pytest.approx(3 * (0.5 + 5.0), abs=0.5)
    # Two replicas for 10 requests a second of 0.19 s each: nearly full.
    during = outcome.latency_s[(outcome.arrived > 11) & (outcome.arrived < 25)]
    assert during.mean() >= outcome.latency_s[outcome.arrived < 9].mean()


def test_without_replicas_everything_is_refused():
    outcome = simulate(process(), replicas=0, arrivals=[0.0, 1.0], demands=demands([1.0, 1.0]))

    assert outcome.counts == {"refused": 2}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("balancing", ["round-robin", "random", "two-choices", "least"])
def test_every_request_is_answered_refused_late_or_lost_exactly_once(seed, balancing):
    generator = np.random.default_rng(seed)
    count, replicas, cores = 600, int(generator.integers(1, 5)), int(generator.integers(1, 4))
    limits = Limits(queue=int(generator.integers(1, 30)), deadline_s=float(generator.choice([0.05, 0.3, 30])))
    batch_s = {1: 0.01, 4: 0.02} if generator.random() < 0.3 else {}
    rate = float(generator.uniform(0.3, 3)) * replicas * cores / 0.03
    times = arrivals.bursts(rate, count, generator).tolist()
    incidents = [
        Loss(at_s=times[200], replicas=1, notice_s=0.2, restart_s=float(generator.choice([0.5, math.inf]))),
        Update(at_s=times[100], start_s=0.3, replicas=replicas),
    ]
    outcome = simulate(
        Process(workers=cores, speeds=[1.0, 0.9, 0.8][:cores], limits=limits, lone_threads=cores, batch_s=batch_s),
        replicas=replicas,
        arrivals=times,
        demands=[Demand(*row) for row in generator.uniform(0, 0.02, (count, 6)).tolist()],
        balancing=balancing,
        seed=seed,
        incidents=incidents,
    )

    assert outcome.offered == count
    assert sum(outcome.counts.values()) == count
    assert len(outcome.latency_s) == outcome.counts.get("answered", 0)
    assert outcome.counts.get("lost", 0) > 0 or replicas > 1
    # An answer that is being written when the deadline passes is sent; its writing takes at most these.
    assert not len(outcome.latency_s) or outcome.latency_s.max() < limits.deadline_s + 1.0


def test_the_same_seed_gives_the_same_result():
    first, second = (queue(2, 0.9, exponential(2000), limits=Limits(queue=20)) for _ in range(2))

    assert first.counts == second.counts
    assert np.array_equal(first.latency_s, second.latency_s)
