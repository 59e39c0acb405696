"""Many threads and many inputs: every answer its own, and memory that does not grow with their number."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import runtime

THREADS, ROUNDS = 8, 4


def requests(model, photos):
    """Requests of every kind, as functions whose answers can be compared."""
    paths = list(photos.values())

    def single(path):
        return lambda: model.predict(path).to_dict()

    def several(path):
        return lambda: [result.to_dict() for result in model.predict([path, b"garbage", *paths])]

    def arrays(path, batch):
        def run():
            pixels = np.stack([model.prepare(path)] * batch)
            return model.run({"pixels": pixels})["probabilities"].tobytes()

        return run

    def bad(name):
        def fail():
            with pytest.raises(runtime.InputError) as caught:
                model.predict(name)
            return str(caught.value)

        return fail

    return [
        request
        for number, path in enumerate(paths)
        for request in (single(path), several(path), arrays(path, 1 + number % 3), bad(f"missing-{number}.jpg"))
    ]


def wrong_answers(model, photos) -> int:
    asked = requests(model, photos)
    expected = [request() for request in asked]
    together = threading.Barrier(THREADS, timeout=60)

    def ask_all(offset):
        together.wait()
        order = [(offset * 5 + number) % len(asked) for number in range(ROUNDS * len(asked))]
        return sum(asked[number]() != expected[number] for number in order)

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(ask_all, range(THREADS)))


@pytest.mark.parametrize("plan", ["latency", "throughput"])
def test_every_thread_gets_the_answers_of_a_single_one(tiny, photos, plan):
    """The small sample of what scripts/bench asks of 32 threads."""
    with runtime.load(tiny, plan=plan) as model:
        assert wrong_answers(model, photos) == 0


def test_a_model_that_mixes_up_threads_is_seen_to(tiny, photos):
    """The check itself: pixels kept on the model instead of in the call, as a careless buffer would be."""

    class Careless(runtime.Model):
        def prepare(self, source, *, subject="input"):
            self.buffer = super().prepare(source, subject=subject)
            time.sleep(0.001)
            return self.buffer

    from runtime.artifact.open import open_artifact

    with Careless(open_artifact(tiny)) as model:
        assert wrong_answers(model, photos) > 0


def peak_mb(tiny, folder: Path, out: Path) -> float:
    code = (
        "import resource, sys\nfrom runtime.cli.main import main\n"
        "try: main()\nfinally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", code, "predict", str(tiny), str(folder), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.slow
def test_the_memory_of_a_job_does_not_grow_with_its_inputs(tiny, photos, tmp_path):
    """Twelve hundred photos instead of forty: decoded, they would take 120 MB, prepared 4 MB."""
    sources = list(photos.values())
    for name, count in (("few", 40), ("many", 1200)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number:04}.jpg").symlink_to(sources[number % 4])

    few, many = (peak_mb(tiny, tmp_path / name, tmp_path / f"{name}.jsonl") for name in ("few", "many"))

    assert many <= 1.15 * few
