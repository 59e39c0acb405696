"""Graphs that never end, and loads that take for ever: requests, deadlines and the end of the process go on."""

import concurrent.futures
import io
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx")
from support.endless import GRAY, make_endless

from runtime.engine.interruption import Interruption
from runtime.engine.session import open_session
from runtime.errors import InputError


@pytest.fixture
def endless(copy):
    make_endless(copy)
    return copy


@pytest.fixture
def gray():
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), (GRAY,) * 3).save(stream, "PNG")
    return stream.getvalue()


def test_a_run_is_ended_from_another_thread(endless):
    session = open_session(endless / "network.onnx", device="cpu", threads=1)
    pixels = np.full((1, 32, 32, 3), GRAY, np.uint8)
    interruption = Interruption()
    threading.Timer(0.3, interruption.interrupt).start()
    started = time.monotonic()

    with interruption, pytest.raises(InputError, match="terminate"):
        session.run({"pixels": pixels})

    assert 0.2 < time.monotonic() - started < 5
    assert interruption.interrupted
    assert session.run({"pixels": pixels + 1})["probabilities"].shape == (1, 4)


@pytest.mark.parametrize("batching", ["off", "on"])
def test_a_run_that_never_ends_is_ended_at_its_deadline(start, endless, gray, cat, batching):
    """Every worker would have one of them for good, or the batcher's thread."""
    with (
        start(endless, "--deadline-s", 1, "--batching", batching) as server,
        concurrent.futures.ThreadPoolExecutor(6) as pool,
    ):
        responses = list(pool.map(lambda _: server.post("/predict/tiny", gray), range(6)))
        assert {response.status for response in responses} == {504}

        assert server.post("/predict/tiny", cat).json["predictions"][0]["label"] == "cat"
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 5
        assert server.other_lines == []


@pytest.mark.parametrize("batching", ["off", "on"])
def test_sigterm_ends_a_run_that_never_ends(start, endless, gray, batching):
    with start(endless, "--drain-s", 1, "--deadline-s", 60, "--batching", batching) as server:
        sender = threading.Thread(target=lambda: server.post("/predict/tiny", gray), daemon=True)
        sender.start()
        time.sleep(0.5)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 0

        assert time.monotonic() - started < 4
        assert server.wait_for("stopped")["unfinished"] == 1


def test_sigterm_ends_a_server_that_still_loads(copy):
    make_endless(copy, tolerance=255)
    command = [sys.executable, "-m", "truecopy", "serve", str(copy), "--http-port", "0", "--grpc-port", "-1"]
    with subprocess.Popen([*command, "--drain-s", "1"], stderr=subprocess.PIPE, text=True) as server:
        try:
            time.sleep(3)
            assert server.poll() is None
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=5) in {0, 128 + signal.SIGTERM}
        finally:
            server.kill()


def test_sigterm_ends_a_server_that_reloads_an_artifact_that_never_loads(start, copy, cat):
    with start(copy, "--drain-s", 1) as server:
        make_endless(copy, tolerance=255)
        server.signal(signal.SIGHUP)
        time.sleep(1)
        assert server.post("/predict/tiny", cat).status == 200
        started = time.monotonic()
        server.signal(signal.SIGTERM)

        assert server.process.wait(timeout=10) == 0
        assert time.monotonic() - started < 4
