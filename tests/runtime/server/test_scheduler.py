"""The thread plan, and jobs that fail: each costs only itself."""

import threading
import time
from pathlib import Path

import pytest

import runtime
from runtime.errors import InputError
from runtime.model import Model
from runtime.server.admission import RequestContext
from runtime.server.errors import ClientLeftError
from runtime.server.jobs import InferenceJob
from runtime.server.scheduler import Scheduler
from runtime.server.served_model import ServedModel, SessionChooser, load_verified


@pytest.fixture(scope="module")
def models(tiny):
    return runtime.load(tiny, device="cpu", threads=1), runtime.load(tiny, device="cpu", threads=2)


def call():
    return RequestContext(request_id="test", deadline=time.monotonic() + 30)


def run(workers, loaded, sources, *, calls=None):
    """Return the jobs of these sources, done."""
    done = threading.Semaphore(0)
    jobs = [
        InferenceJob(
            loaded,
            [source],
            call=calls[position] if calls else call(),
            subjects=[f"#{position}"],
            prepared=False,
            finished=lambda _: done.release(),
        )
        for position, source in enumerate(sources)
    ]
    workers.put(jobs)
    for _ in jobs:
        assert done.acquire(timeout=20)
    return jobs


def test_a_lone_input_goes_to_the_session_that_is_faster(models):
    narrow, wide = models
    for faster in (narrow, wide):
        plan = SessionChooser(narrow, wide)
        chosen = []
        for _ in range(200):
            model = plan.choose()
            plan.note(model, 0.01 if model is faster else 0.02, joined=False)
            chosen.append(model)
        assert chosen[10:].count(faster) >= 180
        # The other one is tried now and then, so that a change is noticed.
        assert any(model is not faster for model in chosen[10:])


def test_a_plan_follows_a_change(models):
    narrow, wide = models
    plan = SessionChooser(narrow, wide)
    for slow in (narrow, wide):
        for _ in range(600):
            model = plan.choose()
            plan.note(model, 0.03 if model is slow else 0.01, joined=False)
        chosen = []
        for _ in range(20):
            chosen.append(plan.choose())
            plan.note(chosen[-1], 0.03 if chosen[-1] is slow else 0.01, joined=False)
        assert chosen.count(slow) <= 1


def test_a_disturbed_first_run_is_forgotten(models):
    narrow, wide = models
    plan = SessionChooser(narrow, wide)
    chosen = []
    for number in range(150):
        chosen.append(plan.choose())
        disturbed = number < 6 and chosen[-1] is wide
        plan.note(chosen[-1], 0.5 if disturbed else 0.01 if chosen[-1] is wide else 0.015, joined=False)
    assert chosen[100:].count(wide) >= 45


def test_where_others_often_join_each_has_a_core_until_they_do_not(models):
    narrow, wide = models
    plan = SessionChooser(narrow, wide)
    shares = []
    for joined in (False, True, False):
        chosen = []
        for number in range(100):
            chosen.append(plan.choose())
            plan.note(chosen[-1], 0.01 if chosen[-1] is wide else 0.02, joined=joined and number % 2 == 0)
        shares.append(chosen[50:].count(wide) / 50)
    assert shares[0] > 0.9
    assert shares[1] == 0
    assert shares[2] > 0.9


class Recording:
    """A model that remembers on which session the network ran."""

    def __init__(self, model, name, seen):
        self._model, self._name, self._seen = model, name, seen

    def __getattr__(self, attribute):
        return getattr(self._model, attribute)

    def score(self, prepared):
        self._seen.append(self._name)
        time.sleep(0.02)
        return self._model.score(prepared)


def test_one_client_gets_all_cores_and_several_get_one_each(models, cat, tiny):
    seen = []
    narrow, wide = Recording(models[0], "narrow", seen), Recording(models[1], "wide", seen)
    loaded = ServedModel(name="tiny", path=Path(tiny), narrow=narrow, wide=wide)
    workers = Scheduler(2)
    try:
        run(workers, loaded, [cat])
        assert seen == ["wide"]
        seen.clear()
        run(workers, loaded, [cat] * 12)
    finally:
        workers.close()

    assert seen.count("narrow") >= 10


@pytest.mark.parametrize("batching", ["on", "off"])
def test_bad_inputs_and_clients_that_left_cost_only_themselves(tiny, cat, batching):
    loaded = load_verified(tiny, name="", device="cpu", cores=2, max_pixels=10**7, batching=batching)
    assert bool(loaded.batched) == (batching == "on")
    workers = Scheduler(2)
    gone = call()
    gone.left = True
    calls = [call(), call(), gone, call()] * 5
    try:
        jobs = run(workers, loaded, [cat, b"garbage", cat, cat] * 5, calls=calls)
    finally:
        workers.close()

    for good, bad, left, other in zip(*[iter(jobs)] * 4, strict=True):
        assert good.error is None
        assert other.error is None
        assert good.results[0].argmax() == other.results[0].argmax() == 0
        assert isinstance(bad.results[0], InputError)
        assert isinstance(left.error, ClientLeftError)


def test_a_batch_that_fails_is_run_one_by_one(tiny, cat):
    """A fault that only one input of a batch brings on, planted in the network itself."""
    loaded = load_verified(tiny, name="", device="cpu", cores=2, max_pixels=10**7, batching="on")

    class Fragile(Recording):
        def score(self, prepared):
            time.sleep(0.05)
            if any(pixels.max() == 0 for pixels in prepared):
                raise RuntimeError("planted")
            return self._model.score(prepared)

    loaded.batched = {size: Fragile(model, "fragile", []) for size, model in loaded.batched.items()}
    import numpy as np

    black = np.zeros((40, 40, 3), np.uint8)
    workers = Scheduler(4)
    try:
        jobs = run(workers, loaded, [cat, black, cat, cat, cat, black, cat, cat])
    finally:
        workers.close()

    assert [job.error is None for job in jobs] == [True, False, True, True, True, False, True, True]
    assert max(job.batch for job in jobs) == 1 or all(job.results[0] is not None for job in jobs if job.error is None)


def test_dropped_jobs_end_without_running(tiny, cat):
    loaded = load_verified(tiny, name="", device="cpu", cores=1, max_pixels=10**7)
    workers = Scheduler(1)
    ended = []
    mine = call()
    try:
        blocker = threading.Event()

        class Slow(Recording):
            def decode(self, source, *, subject):
                blocker.wait(10)
                return self._model.decode(source, subject=subject)

        loaded.narrow = Slow(loaded.narrow, "slow", [])
        jobs = [
            InferenceJob(loaded, [cat], call=who, subjects=["x"], prepared=False, finished=ended.append)
            for who in (call(), mine, mine, call())
        ]
        workers.put(jobs)
        while workers.waiting > 3:
            time.sleep(0.001)
        workers.drop(mine)
        assert [job in ended for job in jobs] == [False, True, True, False]
        blocker.set()
    finally:
        workers.close()
    assert len(ended) == 4


def test_where_a_session_keeps_one_shape_each_size_of_a_batch_has_its_own(tiny, cat, monkeypatch):
    """As on accelerators; here on the CPU, told to."""
    monkeypatch.setattr(Model, "fills_batches", True)
    loaded = load_verified(tiny, name="", device="cpu", cores=1, max_pixels=10**7, batching="on")
    assert [(size, model.plan.batch) for size, model in loaded.batched.items()] == [(1, 1), (4, 4), (16, 16)]
    assert len({id(model) for model in loaded.batched.values()}) == 3

    seen = []
    loaded.batched = {size: Recording(model, size, seen) for size, model in loaded.batched.items()}
    workers = Scheduler(4)
    try:
        jobs = run(workers, loaded, [cat] * 30)
    finally:
        workers.close()

    assert all(job.error is None and job.batch <= max(seen) for job in jobs)
    assert set(seen) <= {1, 4, 16}
    assert len(seen) < 30
