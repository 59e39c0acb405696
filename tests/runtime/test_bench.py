"""The bench measures what is there: figures that fit together, on inputs that were really run."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

import runtime
from runtime.bench import measure_model
from runtime.engine.cpu import usable_cores
from runtime.model import load


@pytest.fixture(scope="module")
def report(tiny, photos):
    def build(device):
        assert device == "cpu"
        model = load(tiny, device="cpu")

        def slow(arrays):
            time.sleep(0.02)
            return model.run(arrays)["probabilities"] + np.float32(0.25)

        def broken(arrays):
            raise RuntimeError("no compiler")

        return {"slow and wrong": slow, "broken": broken}

    with pytest.warns(UserWarning, match="broken is skipped, as it fails here: no compiler"):
        return measure_model(tiny, device="cpu", samples=list(photos.values()), seconds=0.2, build_baselines=build)


def test_latency_and_stages_fit_together(report):
    latency, stages = report.latency, report.stages

    assert 0 < latency.p50_ms <= latency.p90_ms <= latency.p99_ms
    assert latency.calls >= 5
    parts = (stages.decode_ms, stages.geometry_ms, stages.network_ms, stages.rest_ms)
    assert all(part > 0 for part in parts)
    # Medians of parts do not add up exactly, nor is a busy machine even; an order of magnitude shows a lost part.
    assert sum(parts) == pytest.approx(latency.p50_ms, rel=2)
    assert report.first_ms > 0
    assert report.load_ms > 0
    assert report.peak_mb > 30


def test_every_way_to_spend_the_cores_is_tried_and_the_best_is_named(report):
    plans = [(one.plan.workers, one.plan.threads, one.plan.batch) for one in report.throughput]

    assert (1, 1, 1) in plans
    assert (usable_cores(), 1, 1) in plans
    assert (usable_cores(), 1, 8) in plans
    assert len(set(plans)) == len(plans)
    assert report.best.per_s == max(one.per_s for one in report.throughput)
    assert all(one.cpu_ms > 0 for one in report.throughput)


def test_a_baseline_that_is_slower_and_differs_is_seen_to(report):
    ours, baseline = report.baselines

    assert (ours.name, ours.difference) == ("truecopy", 0.0)
    assert baseline.p50_ms > 20 > ours.p50_ms
    assert baseline.difference == pytest.approx(0.25, abs=1e-6)


def test_a_sample_that_cannot_be_used_is_an_error(tiny, tmp_path):
    with pytest.raises(runtime.InputError, match="no such file"):
        measure_model(tiny, device="cpu", samples=[tmp_path / "none.jpg"], seconds=0.1)


def test_the_command_prints_bars_or_json(tiny):
    command = [
        sys.executable,
        "-m",
        "truecopy",
        "bench",
        str(tiny),
        "--seconds",
        "0.1",
    ]
    people = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    machine = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=120)

    assert people.returncode == 0, people.stderr
    assert all(stage in people.stdout for stage in ("decode", "geometry", "network", "rest"))
    assert "best: --workers" in people.stdout
    assert people.stderr == ""
    assert json.loads(machine.stdout)["latency"]["calls"] >= 5
