"""A plan holds its promise, a smaller one does not, and what it says breaks first does."""

import math

import msgspec
import numpy as np
import pytest

import runtime
from capacity import arrivals
from capacity.cluster import simulate
from capacity.measurement import Batch, Busy, StageTimes
from capacity.plan import Goal, plan
from capacity.scale import Surroundings, scale
from capacity.simulation_inputs import core_ms, demands_of, most_per_s, process_of
from runtime.server.limits import Limits


def goal(**changes):
    return Goal(**{"rate": 500.0, "p99_ms": 40.0, "requests": 3000, **changes})


def within_ms(measured, count, rate, seed=11):
    """The time that 99 of 100 of other requests than those planned with take, in milliseconds."""
    times = arrivals.poisson(rate, 8000, np.random.default_rng(seed)).tolist()
    return simulate(
        process_of(measured, Limits()),
        replicas=count,
        arrivals=times,
        demands=demands_of(measured, 8000, seed=seed),
        warm_s=times[800],
    ).within_ms(0.99)


def test_a_plan_holds_its_promise_and_the_work_alone_is_not_enough(measured):
    found = plan(measured(), goal(tolerate_failures=0, headroom=0.0))

    # 500 requests of 10 ms are 5 cores, all of whose time is then used.
    assert found.least_replicas == 6
    # One more, as one at a time is away during an update.
    assert found.replicas == 7
    assert within_ms(measured(), 6, 500) < 40 < within_ms(measured(), 5, 500)
    assert found.steady.within_ms < 40
    assert found.steady.cores == pytest.approx(5 / 7, rel=0.04)
    assert found.cores == 7
    assert found.resident_mb == 700


def test_a_missing_replica_and_headroom_cost_replicas(measured):
    bare, missing, spared = (
        plan(measured(), goal(tolerate_failures=survive, headroom=headroom))
        for survive, headroom in ((0, 0), (2, 0), (0, 0.5))
    )

    assert missing.replicas == missing.least_replicas + 2
    assert missing.losing is not None
    assert missing.losing.p99_ms < 40
    assert missing.losing.lost > 0
    assert bare.losing is None
    assert bare.replicas + 2 <= spared.replicas <= bare.replicas + 4


def test_an_update_takes_one_replica_away_after_the_other(measured):
    found = plan(measured(server={"start_s": 8.0}), goal(tolerate_failures=0, headroom=0.0, rate=20.0))

    # One replica could do it, but not while it restarts.
    assert (found.least_replicas, found.replicas) == (1, 2)
    assert found.updating.within_ms < 40
    assert found.updating.lost == 0
    assert found.update_s == pytest.approx(2 * 8.5, rel=0.05)


def test_memory_bandwidth_and_cost_follow_from_the_replicas(measured):
    found = plan(measured(), goal(tolerate_failures=0, headroom=0.0, core_price=0.5, machine_price=0.25))

    assert found.ingress_gbit_s == pytest.approx(0.5)
    assert found.waiting_mb == pytest.approx(7 * 128 * 125_000 / 2**20)
    assert found.cost_per_hour == pytest.approx(7 * 0.5 + 7 * 0.25)
    assert found.cost_per_million == pytest.approx(5.25 / (500 * 3600) * 1e6)
    assert plan(measured(), goal(tolerate_failures=0)).cost_per_hour is None


def test_bursts_need_more_than_random_arrivals(measured):
    calm, rough = (plan(measured(), goal(trace=trace)).replicas for trace in (arrivals.poisson, arrivals.bursts))

    assert rough > calm + 1


def test_answers_that_are_too_late_come_first_where_queues_are_long(measured):
    found = plan(measured(), goal())

    assert found.breaks.first == "p99"
    assert found.rate < found.breaks.rate < found.breaks.refuses_from <= found.replicas * 100
    assert (found.breaks.bottleneck, found.breaks.stage) == ("cores", "network")
    assert found.breaks.beyond.refused > 0.2


def test_refusals_come_first_where_queues_are_short(measured):
    found = plan(measured(), goal(limits=Limits(queue=3), p99_ms=200.0))

    assert found.breaks.first == "429"


def test_nobody_waits_longer_than_the_deadline_however_many_come(measured):
    # All requests wait at most 25 ms: who would wait longer is refused at the door once the server knows its speed.
    found = plan(measured(), goal(limits=Limits(deadline_s=0.025), p99_ms=24.0, balancing="random"))

    assert found.breaks.beyond.p99_ms <= 25.0
    assert found.breaks.beyond.refused + found.breaks.beyond.late > 0.3


def test_the_event_loop_is_named_where_it_is_the_bottleneck(measured):
    wide = measured(cores=16, process_cores=16, server={"loop_ms": 2.0})
    found = plan(wide, goal(rate=900.0))

    assert most_per_s(wide)["event loop"] == 500
    assert (found.breaks.bottleneck, found.breaks.stage) == ("event loop", "server")
    # Who waits for the event loop has not asked to be let in yet.
    assert found.breaks.refuses_from is None


def test_the_device_is_named_where_it_is_the_bottleneck(measured):
    device = measured(
        device="cuda", cores=8, process_cores=8, batches=(Batch(size=1, network_ms=8.0), Batch(size=8, network_ms=16.0))
    )
    found = plan(device, goal(rate=900.0))

    assert most_per_s(device)["device"] == 500
    assert found.breaks.bottleneck == "device"
    # The network's time is the device's, not a core's.
    assert core_ms(device)["network"] == 0
    assert found.steady.cores < 0.5


def test_cores_that_slow_each_other_down_need_more_replicas(measured):
    busy = (
        Busy(workers=1, per_s=100, decode=1, geometry=1, network=1, slowdown=1),
        Busy(workers=4, per_s=200, decode=2, geometry=2, network=2, slowdown=2),
    )
    free = measured(cores=4, process_cores=4)
    slow = msgspec.structs.replace(free, busy=busy)

    assert most_per_s(slow)["cores"] == most_per_s(free)["cores"] / 2
    assert plan(slow, goal(rate=2000.0)).least_replicas >= 1.8 * plan(free, goal(rate=2000.0)).least_replicas


def test_neighbours_on_the_machine_are_as_busy(measured):
    busy = (
        Busy(workers=1, per_s=100, decode=1, geometry=1, network=1, slowdown=1),
        Busy(workers=4, per_s=200, decode=2, geometry=2, network=2, slowdown=2),
    )
    one_of_four = measured(cores=4, process_cores=1, busy=busy)

    assert process_of(one_of_four, Limits()).speeds == [0.5]
    assert process_of(msgspec.structs.replace(one_of_four, process_cores=4), Limits()).speeds[0] == 1.0


def test_programs_beside_it_take_their_part_of_the_cores(measured):
    assert process_of(measured(), Limits(), others=1.0).speeds == [0.5]


def test_a_promise_that_one_request_alone_breaks_is_one_sentence(measured):
    with pytest.raises(runtime.InputError, match="cannot be met by any number of replicas: expected at least 1"):
        plan(measured(), goal(p99_ms=9.0))


def test_a_promise_that_only_bursts_break_is_one_sentence(measured):
    def all_at_once(per_s, count, _generator):
        return np.repeat(np.arange(count // 500 + 1) * 500 / per_s, 500)[:count]

    with pytest.raises(runtime.InputError, match="cannot be met for arrivals like these"):
        plan(measured(), goal(rate=5.0, trace=all_at_once, p99_ms=20.0))


def test_requests_are_drawn_from_what_was_measured(measured):
    stages = tuple(
        StageTimes(input=row % 2, decode_ms=1 + row % 2, geometry_ms=0, network_ms=10 * (1 + row)) for row in range(4)
    )
    mixed = measured(stages=stages, server={"loop_ms": 2.0, "worker_ms": 0.5, "outside_ms": 1.0})
    drawn = demands_of(mixed, 4000, seed=1)
    asked = demands_of(mixed, 4, seed=1, inputs=[0, 1, 1, 0])

    assert {round(one.network * 1000) for one in drawn} == {10, 20, 30, 40}
    assert np.mean([one.network for one in drawn]) == pytest.approx(0.025, rel=0.05)
    assert drawn[0].receive + drawn[0].respond == pytest.approx(0.002)
    assert [round(one.prepare * 1e6) for one in asked] == [1500, 2500, 2500, 1500]


def test_a_million_a_second_is_a_matter_of_more_than_replicas(measured):
    around = Surroundings(machine_cores=10, balancer_gbit_s=10.0, store_gbit_s=1.0, update_s=1000.0)
    small, large = scale(measured(), goal(tolerate_failures=0, headroom=0.0), [50.0, 1_000_000.0], around)

    assert small.exhausted == []
    assert small.replicas == 1
    # 1 Mbit a request: 1000 Gbit/s through balancers of 10.
    assert large.ingress_gbit_s == pytest.approx(1000)
    assert large.balancers == 100
    assert 1_000_000 / 95 <= large.cores < 12_500
    assert large.host_cores == pytest.approx(large.cores * 0.2, rel=0.01)
    assert large.machines == math.ceil(large.cores / 10)
    assert large.rollout_s == pytest.approx(large.machines * 0.008)
    assert {"a machine's cores", "a balancer's link", "updating one by one"} <= set(large.exhausted)
    assert large.exhausted[0] == "a machine's cores"
