"""The first signal ends a job within a second, whatever it waits for; the second one ends it at once."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from support.commands import TRUECOPY

import runtime
from runtime.jobs.command import Interruption
from runtime.jobs.engines import Stop


class IdleEngine:
    def __init__(self):
        self.terminated = 0

    def terminate(self):
        self.terminated += 1


def slow_results(stop, count):
    """Results of inputs that have all been taken, the last of which never comes."""
    stop.exhausted = True
    yield from range(count)
    time.sleep(60)
    yield "a row that a terminated run failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_result_that_does_not_come_is_not_waited_for(number, monkeypatch):
    monkeypatch.setattr("runtime.jobs.command._GRACE_S", 0.1)
    stop, engine, rows = Stop(), IdleEngine(), []
    with Interruption(stop, engine) as interruption:
        threading.Timer(0.1, os.kill, [os.getpid(), number]).start()
        start = time.monotonic()
        rows.extend(stop.each(slow_results(stop, 3)))

    assert time.monotonic() - start < 2
    assert rows == [0, 1, 2]
    assert interruption.signal == number
    assert engine.terminated
    assert not stop.exhausted  # although all inputs were taken, not all have a row


def test_a_row_that_is_being_written_is_written_whole_and_is_the_last(monkeypatch):
    monkeypatch.setattr("runtime.jobs.command._GRACE_S", 0.05)
    stop, written = Stop(), []
    with Interruption(stop, IdleEngine()):
        for row in stop.each(iter(range(5))):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            written.append(row)

    assert written == [0]


def test_the_handlers_of_before_are_back(monkeypatch):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    with Interruption(Stop(), IdleEngine()):
        pass

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == before


def test_a_job_that_waits_for_stdin_ends(tiny, photos):
    process = subprocess.Popen(
        [*TRUECOPY, "predict", str(tiny), "-", "--format", "jsonl", "--workers", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(f"{photos['cat']}\n".encode())
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["label"] == "cat"
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    code = process.wait(timeout=10)

    assert code == 128 + signal.SIGINT
    assert time.monotonic() - start < 2
    assert b"stopped after 1 inputs" in process.stderr.read()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


def test_a_second_signal_ends_a_process_whose_threads_never_come_back():
    code = (
        "import os, signal, threading, time\n"
        "from runtime.jobs.command import Interruption\n"
        "from runtime.jobs.engines import Stop\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "class Engine:\n"
        "    def terminate(self): pass\n"
        "with Interruption(Stop(), Engine()):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=30)

    assert done.returncode == 128 + signal.SIGINT
    assert time.monotonic() - start < 10


def test_a_terminated_model_runs_no_more(tiny):
    with runtime.load(tiny, workers=1) as model:
        pixels = np.zeros((40, 40, 3), np.uint8)
        model.predict(pixels)
        model.terminate()

        with pytest.raises(runtime.InputError, match="terminate"):
            model.predict(pixels)
