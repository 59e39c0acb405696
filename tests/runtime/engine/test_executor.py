"""Executor: which session a call gets, what fills a batch, and what close leaves behind; without inputs and results."""

import threading

import numpy as np
import pytest

import runtime
from runtime.engine import session
from runtime.engine.concurrency import PlanRequest
from runtime.engine.devices import DeviceOptions
from runtime.engine.executor import Executor


@pytest.fixture
def opened(monkeypatch) -> list[tuple[int, bool]]:
    """The threads and spinning of each session that is opened, on a machine with three cores."""
    sessions: list[tuple[int, bool]] = []

    def record(graph, **options):
        sessions.append((options["threads"], options["spin"]))
        return session.open_session(graph, **options)

    monkeypatch.setattr("runtime.engine.executor.open_session", record)
    monkeypatch.setattr("runtime.engine.executor.usable_cores", lambda: 3)
    return sessions


def make(tiny, **request) -> Executor:
    return Executor(
        tiny / "network.onnx",
        device="cpu",
        request=PlanRequest(**request),
        options=DeviceOptions(),
        every_output_batched=True,
    )


def pixels(count: int) -> dict[str, np.ndarray]:
    return {"pixels": np.full((count, 32, 32, 3), 128, np.uint8)}


@pytest.mark.parametrize(
    ("request_", "first"),
    [
        ({}, (3, True)),
        ({"name": "throughput"}, (1, False)),
        ({"threads": 2}, (2, False)),
        ({"threads": 2, "workers": 1}, (2, True)),
    ],
)
def test_the_plan_decides_the_threads_of_the_first_session_and_whether_they_spin(tiny, opened, request_, first):
    make(tiny, **request_).close()

    assert opened == [first]


def test_overlapping_calls_have_one_thread_each_and_the_same_outputs(tiny, opened):
    executor = make(tiny)
    with executor.active():
        alone = executor.run(pixels(1))
        with executor.active():
            overlapping = executor.run(pixels(1))
        again = executor.run(pixels(1))
    executor.close()

    assert opened == [(3, True), (1, False)]
    for outputs in (overlapping, again):
        np.testing.assert_allclose(outputs["probabilities"], alone["probabilities"], atol=1e-6)


def test_the_graph_of_raw_inputs_is_opened_once_and_at_its_first_use(tiny, opened):
    executor = make(tiny)
    image = {"image": np.zeros((2, 40, 50, 3), np.uint8)}
    for _ in range(2):
        assert executor.run_raw(image, tiny / "model.onnx")["probabilities"].shape == (2, 4)
    executor.close()

    assert opened == [(3, True), (3, False)]


def test_a_batch_on_the_cpu_is_not_filled_and_on_an_accelerator_with_its_last_input(tiny, monkeypatch):
    executor = make(tiny, batch=4)

    assert list(executor.fill(["a", "b"])) == ["a", "b"]
    monkeypatch.setattr(executor, "_fills", True)
    assert list(executor.fill(["a", "b"])) == ["a", "b", "b", "b"]
    assert list(executor.fill(["a"] * 5)) == ["a"] * 5
    executor.close()


def test_on_an_accelerator_inputs_are_prepared_while_two_batches_are_on_it(tiny, monkeypatch):
    started = threading.Barrier(4, timeout=10)
    runs: list[int] = []
    at_once: list[int] = []

    class Slow(session.Session):
        def run(self, arrays):
            runs.append(1)
            at_once.append(len(runs))
            if len(at_once) in {2, 3}:  # the first one warms up
                started.wait()
            outputs = super().run(arrays)
            runs.pop()
            return outputs

    def open_slow(graph, **options):
        opened = session.open_session(graph, **options)
        opened.__class__, opened.device = Slow, "cuda"
        return opened

    def work(number):
        with executor.preparing():
            if number in {2, 3}:
                started.wait()
        return executor.run(pixels(1))["probabilities"].shape

    monkeypatch.setattr("runtime.engine.executor.open_session", open_slow)
    executor = make(tiny, name="throughput", workers=2, batch=1)
    assert list(executor.map(work, range(12))) == [(1, 4)] * 12
    executor.close()

    assert max(at_once) == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_map_keeps_the_order_with_any_number_of_workers(tiny, workers):
    executor = make(tiny, workers=workers)

    assert list(executor.map(lambda number: number * number, range(20))) == [number**2 for number in range(20)]
    executor.close()


def test_close_ends_the_threads_and_refuses_later_calls(tiny):
    before = threading.active_count()
    executor = make(tiny, workers=3)
    assert executor.submit(lambda: "done").result() == "done"
    assert threading.active_count() > before

    executor.close()
    executor.close()

    assert threading.active_count() == before
    for use in (
        executor.check_open,
        lambda: executor.run(pixels(1)),
        lambda: executor.run_raw({}, tiny / "model.onnx"),
        lambda: executor.submit(print),
        lambda: list(executor.map(print, [1])),
    ):
        with pytest.raises(runtime.ModelError, match=r"closed\. Load the artifact again"):
            use()


def test_on_a_cpu_the_batch_of_the_request_wins_over_that_for_cpus():
    assert PlanRequest(cpu_batch=8).plan("cpu", cores=2).batch == 8
    assert PlanRequest(cpu_batch=8, batch=2).plan("cpu", cores=2).batch == 2
    assert PlanRequest(cpu_batch=8, name="throughput").plan("cuda", cores=2).batch == 16
    assert PlanRequest(cpu_batch=8, most=3).plan("cpu", cores=2).batch == 3
    assert PlanRequest(batch=64, most=3).plan("cuda", cores=2).batch == 3
    with pytest.raises(runtime.InputError, match="batch: expected at least 1, got 0"):
        PlanRequest(cpu_batch=8, batch=0).plan("cpu", cores=2)


def test_a_released_executor_opens_its_session_again_at_the_next_call(tiny, opened):
    executor = make(tiny)
    with executor.active():
        before = executor.run(pixels(2))
    executor.release()
    executor.check_open()
    assert len(opened) == 1

    with executor.active():
        after = executor.run(pixels(2))

    assert opened[0] == opened[1]
    assert all(np.array_equal(before[name], after[name]) for name in before)
    executor.close()
    with pytest.raises(runtime.ModelError, match="closed"):
        executor.check_open()
