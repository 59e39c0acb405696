"""The threads that carry inputs to results: in order, bounded, and spent as planned."""

import threading
import time

import pytest

import runtime
from runtime.engine.concurrency import ConcurrencyPlan, ThreadPool, build_plan


def test_answers_come_in_the_order_of_the_items_whatever_they_take():
    with ThreadPool(4) as workers:
        answers = list(workers.map(lambda item: time.sleep(0.02 * (item % 3 == 0)) or item, range(40)))

    assert answers == list(range(40))


def test_items_are_taken_only_two_per_worker_ahead():
    """Otherwise a job's memory would grow with its folder."""
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    with ThreadPool(2) as workers:
        answers = workers.map(lambda item: item, items())
        next(answers)
        assert len(taken) <= 5
        time.sleep(0.05)
        assert len(taken) <= 5
        assert list(answers) == list(range(1, 1000))


def test_all_workers_are_at_work_together():
    """A barrier of four opens only when four items are in work at once."""
    barrier = threading.Barrier(4, timeout=20)

    with ThreadPool(4) as workers:
        list(workers.map(lambda _: barrier.wait(), range(8)))


def test_what_an_item_raises_is_raised_in_its_place_and_the_rest_is_dropped():
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    with ThreadPool(2) as workers:
        answers = workers.map(work, range(1000))
        assert [next(answers) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(answers)
    assert max(begun) < 10


def test_an_abandoned_map_leaves_nothing_in_work():
    done = []
    workers = ThreadPool(2)
    answers = workers.map(lambda item: time.sleep(0.01) or done.append(item), range(1000))
    next(answers)
    answers.close()
    finished = len(done)
    time.sleep(0.05)

    assert len(done) == finished
    workers.close()


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("latency", "cpu", ConcurrencyPlan(workers=6, threads=6, batch=1)),
        ("throughput", "cpu", ConcurrencyPlan(workers=6, threads=1, batch=1)),
        ("latency", "cuda", ConcurrencyPlan(workers=6, threads=1, batch=1)),
        ("throughput", "cuda:1", ConcurrencyPlan(workers=6, threads=1, batch=16)),
    ],
)
def test_the_plans(name, device, expected):
    assert build_plan(name, device=device, cores=6) == expected


def test_every_number_of_a_plan_can_be_overridden():
    plan = build_plan("throughput", device="cpu", cores=6, workers=2, threads=3, batch=8)

    assert plan == ConcurrencyPlan(workers=2, threads=3, batch=8)


@pytest.mark.parametrize("options", [{"name": "fast"}, {"workers": 0}, {"threads": -1}, {"batch": 0}])
def test_a_plan_that_cannot_be_is_refused(options):
    with pytest.raises(runtime.InputError, match=next(iter(options.values())) if "name" in options else r"at least 1"):
        build_plan(**{"name": "latency", "device": "cpu", "cores": 2, **options})


def test_on_an_accelerator_no_more_threads_decode_than_pythons_lock_lets_through():
    assert [build_plan("throughput", device="cuda", cores=cores).workers for cores in (2, 8, 64)] == [2, 8, 8]
    assert build_plan("throughput", device="cuda", cores=64, workers=32).workers == 32
    assert build_plan("throughput", device="cpu", cores=64).workers == 64
