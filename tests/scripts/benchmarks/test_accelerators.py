"""The benchmarks of accelerators run without one: on a tiny network, with a few photos."""

import json
from argparse import ArgumentParser
from pathlib import Path

import pytest

from benchmarks import gpu, stand_in

DATA = Path(__file__).parents[2] / "data"
TINY = ["--artifact", str(DATA / "tiny"), "--photo", str(DATA / "cat.jpg")]


def parse(benchmark, *arguments):
    parser = ArgumentParser()
    benchmark.add_options(parser)
    return parser.parse_args(arguments)


def test_the_gpus_script_runs_on_the_cpu_and_writes_json(tmp_path):
    out = tmp_path / "new" / "gpu.json"

    results = gpu.measure(parse(gpu, "--device", "cpu", "--small", "--only", "predict", "--out", str(out)))

    written = json.loads(out.read_text())
    assert written == json.loads(json.dumps(results.to_json()))
    assert written["device"].startswith("cpu")
    assert written["figures"]
    assert all("; 0 labels are not the CPU's" in figure["measured"] for figure in written["figures"])


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="has a CUDA device")
def test_without_a_gpu_the_script_says_so_and_writes_nothing(tmp_path):
    out = tmp_path / "gpu.json"

    with pytest.raises(SystemExit, match="nothing was measured: device 'cuda': "):
        gpu.measure(parse(gpu, "--out", str(out)))

    assert not out.exists()


def test_a_stand_in_takes_its_time_and_everything_else_is_the_products(monkeypatch):
    ran = []
    monkeypatch.setattr(stand_in.time, "sleep", ran.append)

    results = stand_in.measure(parse(stand_in, *TINY, "--photos", "40", "--rounds", "1", "--batch-ms", "3"))

    assert [figure.measured.endswith("/s)") for figure in results.figures] == [True, True]
    # Two turns, of which the first warms up, of predict's three batches; and those of the server.
    assert ran.count(0.003) > 2 * 3
    assert set(ran) == {0.003}
