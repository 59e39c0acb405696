"""Choice of session, and jobs that fail: each costs only itself."""

import threading
import time
from pathlib import Path

import pytest

import runtime
from runtime.errors import InputError
from runtime.model import Model
from runtime.server.context import RequestContext
from runtime.server.errors import ClientLeftError
from runtime.server.folder_watch import FolderWatch
from runtime.server.jobs import AcceptedInput, InferenceJob, PreparedInput, RejectedInput, Scores
from runtime.server.scheduler import Scheduler
from runtime.server.served_model import ServedModel, SessionChooser, load_verified


@pytest.fixture(scope="module")
def models(tiny):
    return runtime.load(tiny, device="cpu", threads=1), runtime.load(tiny, device="cpu", threads=2)


def new_context():
    return RequestContext(request_id="test", deadline=time.monotonic() + 30)


def accepted(value):
    return AcceptedInput(name="x", subject="'x'", value=value)


def run(scheduler, model, values, *, contexts=None):
    """Return the finished jobs of these values, one job per value."""
    sources = [[accepted(value)] for value in values]
    return run_sources(scheduler, model, sources, contexts=contexts or [new_context() for _ in values])


def run_sources(scheduler, model, sources, *, contexts):
    done = threading.Semaphore(0)
    jobs = [
        InferenceJob(model, job_sources, context=context, on_finish=lambda _: done.release())
        for job_sources, context in zip(sources, contexts, strict=True)
    ]
    scheduler.put(jobs)
    for _ in jobs:
        assert done.acquire(timeout=20)
    return jobs


def test_an_input_without_a_concurrent_job_goes_to_the_faster_session(models):
    single, multi = models
    for faster in (single, multi):
        chooser = SessionChooser(single, multi)
        choices = []
        for _ in range(200):
            model = chooser.choose()
            chooser.record(model, 0.01 if model is faster else 0.02, overlapped=False)
            choices.append(model)
        assert choices[10:].count(faster) >= 180
        # The slower session is tried now and then, so that a change is noticed.
        assert any(model is not faster for model in choices[10:])


def test_the_choice_follows_a_change(models):
    single, multi = models
    chooser = SessionChooser(single, multi)
    for slow in (single, multi):
        for _ in range(600):
            model = chooser.choose()
            chooser.record(model, 0.03 if model is slow else 0.01, overlapped=False)
        choices = []
        for _ in range(20):
            choices.append(chooser.choose())
            chooser.record(choices[-1], 0.03 if choices[-1] is slow else 0.01, overlapped=False)
        assert choices.count(slow) <= 1


def test_a_disturbed_first_run_is_forgotten(models):
    single, multi = models
    chooser = SessionChooser(single, multi)
    choices = []
    for number in range(150):
        choices.append(chooser.choose())
        disturbed = number < 6 and choices[-1] is multi
        chooser.record(choices[-1], 0.5 if disturbed else 0.01 if choices[-1] is multi else 0.015, overlapped=False)
    assert choices[100:].count(multi) >= 45


def test_where_jobs_often_overlap_each_has_one_core_until_they_do_not(models):
    single, multi = models
    chooser = SessionChooser(single, multi)
    shares = []
    for concurrent in (False, True, False):
        choices = []
        for number in range(100):
            choices.append(chooser.choose())
            chooser.record(
                choices[-1], 0.01 if choices[-1] is multi else 0.02, overlapped=concurrent and number % 2 == 0
            )
        shares.append(choices[50:].count(multi) / 50)
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
    single, multi = Recording(models[0], "single", seen), Recording(models[1], "multi", seen)
    model = ServedModel(
        name="tiny", path=Path(tiny), watch=FolderWatch(Path(tiny)), single_threaded=single, multi_threaded=multi
    )
    scheduler = Scheduler(2)
    try:
        run(scheduler, model, [cat])
        assert seen == ["multi"]
        seen.clear()
        run(scheduler, model, [cat] * 12)
    finally:
        scheduler.close()

    assert seen.count("single") >= 10


@pytest.mark.parametrize("batching", ["on", "off"])
def test_bad_inputs_and_disconnected_clients_cost_only_themselves(tiny, cat, batching):
    model = load_verified(tiny, name="", device="cpu", cores=2, max_pixels=10**7, batching=batching)
    assert bool(model.batch_models) == (batching == "on")
    scheduler = Scheduler(2)
    gone = new_context()
    gone.disconnected = True
    contexts = [new_context(), new_context(), gone, new_context()] * 5
    try:
        jobs = run(scheduler, model, [cat, b"garbage", cat, cat] * 5, contexts=contexts)
    finally:
        scheduler.close()

    for good, bad, dropped, other in zip(*[iter(jobs)] * 4, strict=True):
        assert good.error is None
        assert other.error is None
        assert good.results[0].value.argmax() == other.results[0].value.argmax() == 0
        assert isinstance(bad.results[0], InputError)
        assert isinstance(dropped.error, ClientLeftError)


def test_a_batch_that_fails_is_run_one_by_one(tiny, cat):
    """A fault that only one input of a batch causes, planted in the network itself."""
    model = load_verified(tiny, name="", device="cpu", cores=2, max_pixels=10**7, batching="on")

    class Fragile(Recording):
        def score(self, prepared):
            time.sleep(0.05)
            if any(pixels.max() == 0 for pixels in prepared):
                raise RuntimeError("planted")
            return self._model.score(prepared)

    model.batch_models = {size: Fragile(batch_model, "fragile", []) for size, batch_model in model.batch_models.items()}
    import numpy as np

    black = np.zeros((40, 40, 3), np.uint8)
    scheduler = Scheduler(4)
    try:
        jobs = run(scheduler, model, [cat, black, cat, cat, cat, black, cat, cat])
    finally:
        scheduler.close()

    assert [job.error is None for job in jobs] == [True, False, True, True, True, False, True, True]
    assert max(job.batch_size for job in jobs) == 1 or all(
        job.results[0] is not None for job in jobs if job.error is None
    )


def test_dropped_jobs_end_without_running(tiny, cat):
    model = load_verified(tiny, name="", device="cpu", cores=1, max_pixels=10**7)
    scheduler = Scheduler(1)
    finished = []
    cancelled = new_context()
    try:
        blocker = threading.Event()

        class Slow(Recording):
            def decode(self, source, *, subject):
                blocker.wait(10)
                return self._model.decode(source, subject=subject)

        model.single_threaded = Slow(model.single_threaded, "slow", [])
        jobs = [
            InferenceJob(model, [accepted(cat)], context=context, on_finish=finished.append)
            for context in (new_context(), cancelled, cancelled, new_context())
        ]
        scheduler.put(jobs)
        while scheduler.waiting > 3:
            time.sleep(0.001)
        scheduler.drop(cancelled)
        assert [job in finished for job in jobs] == [False, True, True, False]
        blocker.set()
    finally:
        scheduler.close()
    assert len(finished) == 4


def test_where_a_session_keeps_one_shape_each_size_of_a_batch_has_its_own(tiny, cat, monkeypatch):
    """As on accelerators; forced on the CPU here."""
    monkeypatch.setattr(Model, "fills_batches", True)
    model = load_verified(tiny, name="", device="cpu", cores=1, max_pixels=10**7, batching="on")
    assert [(size, batch_model.plan.batch) for size, batch_model in model.batch_models.items()] == [
        (1, 1),
        (4, 4),
        (16, 16),
    ]
    assert len({id(batch_model) for batch_model in model.batch_models.values()}) == 3

    seen = []
    model.batch_models = {size: Recording(batch_model, size, seen) for size, batch_model in model.batch_models.items()}
    scheduler = Scheduler(4)
    try:
        jobs = run(scheduler, model, [cat] * 30)
    finally:
        scheduler.close()

    assert all(job.error is None and job.batch_size <= max(seen) for job in jobs)
    assert set(seen) <= {1, 4, 16}
    assert len(seen) < 30


def test_one_job_takes_inputs_that_are_accepted_prepared_and_rejected(tiny, cat):
    model = load_verified(tiny, name="", device="cpu", cores=1, max_pixels=10**7)
    error = InputError("planted")
    sources = [
        RejectedInput(name="a", subject="'a'", error=error),
        accepted(cat),
        PreparedInput(name="b", subject="'b'", value=model.single_threaded.prepare(cat)),
        accepted(b"garbage"),
    ]
    scheduler = Scheduler(1)
    try:
        (job,) = run_sources(scheduler, model, [sources], contexts=[new_context()])
    finally:
        scheduler.close()

    rejected, decoded, prepared, damaged = job.results
    assert rejected is error
    assert isinstance(decoded, Scores)
    assert (decoded.value == prepared.value).all()
    assert isinstance(damaged, InputError)
    assert job.batch_size == 2


def test_a_chooser_takes_any_two_objects_for_its_sessions():
    chooser = SessionChooser("single", "multi")
    for _ in range(20):
        session = chooser.choose()
        chooser.record(session, 0.01 if session == "multi" else 0.02, overlapped=False)

    assert chooser.choose() == "multi"
    assert SessionChooser("single", "single").choose() == "single"
