"""Graphs that never end: a signal ends the command, and what nobody watches ends by itself."""

import signal
import subprocess
import threading
import time

import numpy as np
import pytest

pytest.importorskip("onnx")
from support.commands import TRUECOPY
from support.endless import GRAY, make_endless

from runtime.artifact import limits
from runtime.artifact.open import open_artifact
from runtime.bench import measure_model
from runtime.errors import ArtifactError
from runtime.jobs.engines import LocalEngine, Stop
from runtime.model import Model
from runtime.results import Failure
from runtime.server.served_model import load_verified
from runtime.verify import verify


@pytest.fixture
def endless(copy):
    make_endless(copy, tolerance=255)
    return copy


@pytest.mark.parametrize(("command", "number"), [("verify", signal.SIGINT), ("bench", signal.SIGTERM)])
def test_the_first_signal_ends_a_command_inside_a_run(endless, command, number):
    with subprocess.Popen([*TRUECOPY, command, str(endless)], stderr=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(3)
            assert process.poll() is None
            started = time.monotonic()
            process.send_signal(number)
            assert process.wait(timeout=10) == 128 + number
            assert time.monotonic() - started < 2
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_golden_inputs_that_take_too_long_refuse_the_artifact(endless, monkeypatch):
    monkeypatch.setattr(limits, "_LEAST_LIMIT_S", 0.3)
    started = time.monotonic()

    with pytest.raises(ArtifactError, match="does not end"):
        verify(endless, device="cpu")
    with pytest.raises(ArtifactError, match="does not end"):
        load_verified(endless, name="", device="cpu", cores=1, max_pixels=10**7)

    assert time.monotonic() - started < 8


def test_a_job_or_measurement_whose_graph_never_ends_is_refused(endless, monkeypatch, photos):
    monkeypatch.setattr(limits, "_LEAST_LIMIT_S", 0.3)
    started = time.monotonic()

    with pytest.raises(ArtifactError, match="does not end"):
        measure_model(endless, device="cpu")
    artifact = open_artifact(endless)
    with LocalEngine(Model(artifact, device="cpu"), artifact=artifact) as engine:
        named = iter([(label, photo) for label, photo in photos.items()])
        with pytest.raises(ArtifactError, match="does not end"):
            list(engine.predict_each(named, skipped=0, stop=Stop()))

    assert time.monotonic() - started < 8


def test_a_single_input_may_take_longer_than_golden_ones(copy, monkeypatch):
    """It may be far larger; of this graph, gray images alone take for ever, and the user ends the job."""
    make_endless(copy)
    monkeypatch.setattr(limits, "_LEAST_LIMIT_S", 0.1)
    artifact = open_artifact(copy)
    gray = np.full((32, 32, 3), GRAY, np.uint8)
    with LocalEngine(Model(artifact, device="cpu"), artifact=artifact) as engine:
        threading.Timer(1, engine.terminate).start()
        (result,) = engine.predict_each(iter([("gray", gray)]), skipped=0, stop=Stop())

    assert isinstance(result, Failure)


def test_the_usual_limit_is_far_from_what_small_models_take_and_below_ten_seconds(tiny):
    assert 5 < limits._LEAST_LIMIT_S < 10
    assert verify(tiny, device="cpu").passed
