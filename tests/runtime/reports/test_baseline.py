"""Drift: figures that grew are found, noise is not, and what cannot be compared is said in a sentence."""

import os

import msgspec
import pytest

from runtime.errors import InputError
from runtime.evidence import Evidence, evidence_to_json
from runtime.reports import compare_with_baseline, read_baseline


def network(evidence, **changes):
    """Return the evidence with the network's first row changed."""
    rows = list(evidence.rows)
    rows[2] = msgspec.structs.replace(rows[2], **changes)
    assert rows[2].stage == "network"
    return msgspec.structs.replace(evidence, rows=tuple(rows))


def test_the_same_figures_are_no_drift(passed):
    compared = compare_with_baseline(passed, passed, "old.json")

    assert compared.passed
    assert compared.drift.grown == compared.drift.new == compared.drift.gone == compared.drift.versions == ()


def test_a_figure_that_grew_more_than_four_times_fails_and_names_the_versions(passed):
    now = msgspec.structs.replace(
        network(passed, difference=6.5e-6), tools={"torch": "2.15.0", "onnxruntime": "1.31.1", "timm": "1.0"}
    )
    compared = compare_with_baseline(now, passed, "old.json")

    assert compared.verdict == "failed"
    assert compared.rows[compared.first_fault].stage == "network"
    [growth] = compared.drift.grown
    assert (growth.path, growth.stage, growth.group, growth.figure) == ("model.onnx", "network", "photos", "largest")
    assert (growth.before, growth.now) == pytest.approx((1.5, 6.5))
    assert compared.reason == (
        "model.onnx on cpu, network, photos: the largest difference grew more than 4 times since 'old.json': it is now "
        "6.5 times the noise floor, and was 1.5. Versions that changed: timm none -> 1.0, torch 2.14.1 -> 2.15.0"
    )


@pytest.mark.parametrize(
    ("before", "now", "drifts"),
    [
        (1.5e-6, 5.9e-6, False),  # not four times
        (0.0, 0.99e-6, False),  # from nothing to less than the noise
        (1e-9, 0.9e-6, False),  # nine hundred times, within the noise
        (1e-9, 3.9e-6, False),  # not four times the noise itself
        (1e-9, 4.1e-6, True),
        (0.0, 4.1e-6, True),
        (9e-6, 1e-6, False),  # it shrank
    ],
)
def test_below_the_noise_floor_all_figures_are_alike(passed, before, now, drifts):
    compared = compare_with_baseline(network(passed, difference=now), network(passed, difference=before), "old.json")

    assert bool(compared.drift.grown) == drifts
    assert compared.passed != drifts


def test_a_model_with_larger_outputs_has_not_drifted(passed):
    now = network(passed, difference=1.5e-4, difference_p99=1e-6, floor=1e-4, limit=1e-3)

    assert compare_with_baseline(now, passed, "old.json").passed


def test_the_99th_percentile_counts_too(passed):
    compared = compare_with_baseline(network(passed, difference_p99=4.5e-6), passed, "old.json")

    assert [growth.figure for growth in compared.drift.grown] == ["99th percentile"]


def test_what_was_equal_and_is_allowed_not_to_be_drifts(passed):
    before = network(passed, difference=0.0, difference_p99=0.0, floor=0.0, limit=1.0, unit="gray levels")
    now = network(passed, difference=1.0, difference_p99=0.0, floor=0.0, limit=1.0, unit="gray levels")
    compared = compare_with_baseline(now, before, "old.json")

    assert "is now 1 gray levels, and was 0" in compared.reason


def test_rows_that_only_one_has_are_told_and_fail_nothing(passed, row):
    other = row("model.onnx", "network", "photos", device="cuda")
    compared = compare_with_baseline(msgspec.structs.replace(passed, rows=(*passed.rows[1:], other)), passed, "o.json")

    assert compared.passed
    assert compared.drift.new == ("model.onnx on cuda, network, photos",)
    assert compared.drift.gone == ("model.onnx on cpu, geometry, photos",)


def test_a_check_that_failed_keeps_its_own_reason(passed, failed):
    compared = compare_with_baseline(network(failed, difference=9e-6), passed, "old.json")

    assert (compared.reason, compared.first_fault) == (failed.reason, 0)
    assert len(compared.drift.grown) == 1, "and the drift is told"


def test_evidence_with_drift_is_read_back_as_it_was(passed):
    compared = compare_with_baseline(network(passed, difference=6.5e-6), passed, "old.json")

    assert msgspec.json.decode(evidence_to_json(compared), type=Evidence) == compared
    assert b"drift" not in evidence_to_json(passed)


def test_a_baseline_is_read_from_the_evidences_json_with_fields_of_later_versions(passed, tmp_path):
    path = tmp_path / "parity.json"
    path.write_bytes(evidence_to_json(passed).replace(b'"verdict"', b'"later": {"a": 1}, "verdict"', 1))

    assert read_baseline(path) == passed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format_version": 1, "verdict": "passed"}', "unsupported format: expected format_version 3, got 1"),
        (b'{"format_version": 4}', "unsupported format: expected format_version 3, got 4"),
        (b'{"passed": true}', "not the evidence of a parity check: .*format_version"),
        (b'{"format_version": 3, "verdict": "passed"}', "not the evidence of a parity check: .*artifact"),
        (b"\x89PNG", "not the evidence of a parity check"),
        (b"", "not the evidence of a parity check"),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_baseline_is_refused_in_a_sentence(tmp_path, content, message):
    path = tmp_path / "old.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InputError, match=message) as caught:
        read_baseline(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"--baseline '{path}': ")


def test_a_pipe_is_no_baseline(tmp_path):
    os.mkfifo(tmp_path / "old.json")

    with pytest.raises(InputError, match=r"not a parity\.json: expected a file of at most"):
        read_baseline(tmp_path / "old.json")


def test_a_check_that_failed_is_no_baseline(failed, tmp_path):
    (tmp_path / "old.json").write_bytes(evidence_to_json(failed))

    with pytest.raises(InputError, match="expected the verdict passed, got failed"):
        read_baseline(tmp_path / "old.json")
