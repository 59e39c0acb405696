"""Requests come as often as was asked for, in the shape that was asked for."""

import numpy as np
import pytest

import runtime
from capacity.arrivals import bursts, poisson, rate_of, read_log, recorded


def per_second(times):
    return np.histogram(times, bins=np.arange(0, np.ceil(times[-1]) + 1))[0][:-1]


@pytest.mark.parametrize("shape", [poisson, bursts])
def test_the_rate_is_the_one_asked_for(shape):
    times = shape(50.0, 20_000, np.random.default_rng(1))

    assert len(times) == 20_000
    assert np.all(np.diff(times) >= 0)
    assert 20_000 / times[-1] == pytest.approx(50, rel=0.03)


def test_random_requests_know_nothing_of_each_other_and_bursts_come_together():
    steady, rough = (per_second(shape(50.0, 20_000, np.random.default_rng(1))) for shape in (poisson, bursts))

    # A Poisson count's variance is its mean.
    assert steady.var() / steady.mean() == pytest.approx(1, rel=0.25)
    assert rough.var() / rough.mean() > 8


def test_a_log_keeps_its_shape_at_another_rate_and_over_its_end():
    # Ten seconds: nine calm ones, one of 50 requests.
    log = np.concatenate([np.arange(0, 9, 0.1), np.arange(9, 10, 0.02)])
    times = recorded(log, 10 * rate_of(log), 4000, np.random.default_rng(1))
    counts = per_second(times)[:20]

    assert np.all(np.diff(times) >= 0)
    assert 4000 / times[-1] == pytest.approx(10 * rate_of(log), rel=0.1)
    # 500 a second in the tenth and the twentieth second, 100 in the others.
    assert counts[[9, 19]].mean() == pytest.approx(500, rel=0.15)
    assert counts[:9].mean() == pytest.approx(100, rel=0.1)


def test_of_a_long_log_the_busiest_stretch_counts():
    log = np.concatenate([np.arange(0, 100, 1.0), np.arange(100, 110, 0.1), np.arange(110, 200, 1.0)])
    times = recorded(log, rate_of(log), 80, np.random.default_rng(1))

    assert times[-1] == pytest.approx(8, rel=0.3)


def test_a_log_may_be_seconds_iso_times_or_our_servers_own(tmp_path):
    rows = [1_700_000_000 + number / 4 for number in range(200)]
    plain, iso, json = tmp_path / "plain.txt", tmp_path / "iso.txt", tmp_path / "server.log"
    plain.write_text("\n".join(map(str, reversed(rows))) + "\n\n")
    moments = [str(np.datetime64(int(row * 1000), "ms")) + "Z" for row in rows]
    iso.write_text("\n".join(moments))
    lines = [f'{{"time": "{moment}", "event": "request", "status": 200}}' for moment in moments]
    json.write_text("\n".join(['{"time": "2020-01-01T00:00:00Z", "event": "serving"}', *lines]))

    for path in (plain, iso, json):
        log = read_log(path)
        assert len(log) == 200
        assert rate_of(log) == pytest.approx(4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2\n3\n", "too few requests: expected at least 100 at different times, got 3"),
        ("1\n" * 200, "too few requests"),
        ("1\nyesterday\n", "line 2: not a time: expected seconds or ISO 8601, got 'yesterday'"),
        ('{"when": 1}\n', "line 1: no time: expected a field 'time', got when"),
        ("{broken\n", "line 1: not JSON"),
    ],
)
def test_a_log_that_is_none_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "log"
    path.write_text(text)

    with pytest.raises(runtime.InputError, match=message):
        read_log(path)


def test_a_picture_is_no_log(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"\xff\xd8\xff\xe0" * 50)

    with pytest.raises(runtime.InputError, match="not a text file"):
        read_log(path)
