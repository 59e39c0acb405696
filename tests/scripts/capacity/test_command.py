"""scripts/plan-capacity measures a real artifact and a real server, plans from a file, and refuses in one sentence."""

import json

import pytest
from support.commands import run_script

from capacity.bodies import to_body
from runtime.engine.cpu import usable_cores
from runtime.model import load


def run(*arguments):
    """Run what scripts/plan-capacity runs, without its setup."""
    return run_script("capacity", *arguments, timeout=240)


@pytest.fixture(scope="module")
def answer(tiny, photos, tmp_path_factory):
    """What the command prints for programs, measured once; and the file that it is in."""
    done = run(
        *(
            tiny,
            "--rate",
            200,
            "--p99-ms",
            5000,
            "--seconds",
            0.2,
            "--replica-cores",
            1,
            "--json",
            "--tolerate-failures",
            0,
        ),
        *(option for photo in photos.values() for option in ("--samples", photo)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    path = tmp_path_factory.mktemp("capacity") / "answer.json"
    path.write_text(done.stdout)
    return json.loads(done.stdout), path


def test_stages_busy_workers_batches_and_the_server_are_measured(answer, photos):
    measured = answer[0]["measured"]

    assert [one["size_bytes"] for one in measured["inputs"]] == [path.stat().st_size for path in photos.values()]
    assert all(one[stage] > 0 for one in measured["inputs"] for stage in ("decode_ms", "geometry_ms", "network_ms"))
    assert {row["input"] for row in measured["stages"]} == set(range(len(photos)))
    workers = [one["workers"] for one in measured["busy"]]
    assert (workers[0], workers[-1]) == (1, usable_cores())
    assert [one["size"] for one in measured["batches"]] == [1, 4, 16]
    assert measured["batches"][-1]["network_ms"] > measured["batches"][0]["network_ms"]
    server = measured["server"]
    assert 0.05 < server["loop_ms"] < 50
    assert server["resident_mb"] > 50
    assert server["response_bytes"] > 200
    assert server["start_s"] > 0.2
    assert measured["process_cores"] == 1
    assert measured["all_cores"] == 1


def test_the_plan_follows_from_the_measurement(answer, tiny):
    plan = answer[0]["plan"]
    assert plan["replicas"] >= plan["least_replicas"] >= 1
    assert plan["steady"]["within_ms"] <= 5000

    done = run(tiny, "--rate", 200, "--p99-ms", 5000, "--tolerate-failures", 0, "--measured", answer[1], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["plan"] == plan


def test_people_read_what_breaks_first_and_what_it_costs(answer, tiny, tmp_path):
    log = tmp_path / "log"
    log.write_text("\n".join(str(number / 300) for number in range(900)))
    done = run(
        *(tiny, "--arrivals", log, "--p99-ms", 5000, "--core-price", 0.1, "--balance", "two-choices"),
        *("--measured", answer[1]),
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for words in (
        *(
            "decode",
            "geometry",
            "network",
            "replicas",
            "of 1 core:",
            "for 300 requests per second",
            "per hour",
            "breaks",
        ),
        *("first", "Bottleneck:", "rolling update", "Gbit/s in"),
    ):
        assert words in done.stdout, (words, done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--p99-ms", "80"], "--rate: missing. Pass the requests per second"),
        (["--p99-ms", "80", "--rate", "0"], "--rate: expected a number above 0, got 0"),
        (["--p99-ms", "nan", "--rate", "10"], "--p99-ms: expected a number above 0, got nan"),
        (
            ["--p99-ms", "80", "--rate", "10", "--arrivals", "possion"],
            "--arrivals 'possion': unknown. Pass poisson",
        ),
        (["--p99-ms", "80", "--rate", "10", "--replica-cores", "999"], "--replica-cores: expected 1 to"),
        (["--p99-ms", "80", "--rate", "10", "--samples", "none.jpg"], "'none.jpg'"),
        (["--p99-ms", "80", "--rate", "10", "--measured", "none.json"], "'none.json': No such file"),
    ],
)
def test_bad_input_is_one_sentence(tiny, arguments, message):
    done = run(tiny, *arguments)

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_broken_sample_is_named(tiny, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    done = run(tiny, "--rate", 10, "--p99-ms", 80, "--samples", broken)

    assert done.returncode == 1
    assert "broken.jpg" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found["measured"].update(sha256="0" * 64), "measurement of another artifact"),
        (lambda found: found["measured"].update(format=99), "another format: expected 2, got 99"),
        (lambda found: found["measured"].pop("stages"), "not a measurement: Object missing required field `stages`"),
        (lambda found: found["measured"].update(stages=[]), "a measurement without times"),
    ],
)
def test_a_measurement_that_does_not_fit_is_refused(answer, tiny, tmp_path, change, message):
    found = json.loads(answer[1].read_text())
    change(found)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(found))
    done = run(tiny, "--rate", 10, "--p99-ms", 80, "--measured", path)

    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_body_is_what_the_server_decodes(tiny, photos):
    with load(tiny, device="cpu") as model:
        body = to_body("cat", photos["cat"], model.manifest)

        assert body.content == photos["cat"].read_bytes()
        assert model.predict(body.source).label == "cat"
