"""Faults, each of which somebody has shipped: the proof catches it, names its stage, and nothing is written.

A sample of what scripts/mutants plants.
"""

import pytest
import torch
from mutation.judging import Bench, Outcome
from mutation.planting import FAULTS, Planting
from mutation.table import table_of

import exporter
from exporter.options.export import ExportOptions
from exporter.recheck import recheck_artifact

SAMPLE = (
    *("channels in BGR", "alpha over white", "axes in the older order", "crop rounded down"),
    *("statistics of ImageNet", "one weight overwritten", "softmax twice", "two labels swapped"),
    *("weights edited", "stale golden file", "columns swapped", "empty cells as zero", "unknown word as the first"),
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Bench(tmp_path_factory.mktemp("mutants"))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photo(bench):
    """The honest export of the subject that most faults are planted in."""
    return bench.honest("photo")


def test_there_are_enough_faults_and_each_says_who_ships_it():
    assert len(FAULTS) >= 60
    assert all(len(fault.story) > 20 and fault.stages for fault in FAULTS.values())
    subjects = {fault.subject.partition(",")[0] for fault in FAULTS.values()}
    assert subjects >= {"photo", "row", "text", "tokens", "series"}


@pytest.mark.parametrize("name", SAMPLE)
def test_a_planted_fault_is_caught_at_its_stage_and_by_verify(name, bench):
    outcome = bench.judge(FAULTS[name])

    assert not outcome.broken, "it changes nothing, and so is no fault"
    assert outcome.caught
    assert outcome.right_stage, (outcome.stage, outcome.reason)
    assert not outcome.verify_owes or outcome.verify


def test_what_changes_nothing_is_no_fault(bench, photo, monkeypatch):
    """The proof of the proof: a plant without an effect is told from one that nobody caught."""
    from mutation.planting import Fault

    idle = Fault(name="idle", subject="photo", stages=("network",), story="", plant=lambda planting: None)

    outcome = bench.judge(idle)

    assert outcome.broken
    assert not outcome.caught
    assert not outcome.verify


def test_a_fault_of_the_network_is_located_while_exporting_and_nothing_is_written(photo, tmp_path):
    planting = Planting()
    FAULTS["GELU by tanh"].plant(planting)

    with planting.in_force(), pytest.raises(exporter.ParityError) as caught:
        exporter.export(**photo.subject.options, out=tmp_path / "artifact", locate=tmp_path / "node")

    message = str(caught.value)
    assert "not equal to the eager model" in message
    assert "'smooth' (GELU)" in message
    assert "networks.py:" in message
    assert "approximate: expected none, got tanh" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node"]
    assert sorted(path.name for path in (tmp_path / "node").iterdir()) == ["case.npz", "node.onnx", "run.py"]


def test_a_fault_in_a_finished_artifact_is_located(photo, tmp_path):
    import shutil

    from mutation.planting import rehash

    shutil.copytree(photo.artifact, tmp_path / "artifact")
    planting = Planting()
    FAULTS["graph edited"].plant(planting)
    for change in planting.finished:
        change(tmp_path / "artifact")
    rehash(tmp_path / "artifact")
    options = photo.subject.options
    options = ExportOptions(
        checkpoint=options["checkpoint"],
        preprocess=options["preprocess"],
        labels=options["labels"],
        locate=tmp_path / "node",
    )

    checked = recheck_artifact(tmp_path / "artifact", options, pixels=False)

    assert checked.location.location.origin.module == "square"
    assert "'square.bias': 16 of 16 values differ, by up to 5.0e-02" in checked.location.sentence


def test_the_table_has_a_row_a_fault():
    def outcome(name):
        fault = FAULTS[name]
        return Outcome(
            fault=name,
            subject=fault.subject,
            expected=fault.stages,
            story=fault.story,
            served=True,
            torchscript=False,
            caught=name != "softmax twice",
            stage="" if name == "softmax twice" else fault.stages[0],
            reason="",
            verify="" if name == "softmax twice" else "network",
        )

    text = table_of([outcome(name) for name in FAULTS])

    assert f"{len(FAULTS)} of {len(FAULTS)} faults planted" in text
    assert text.count("**missed**") == 2
    assert text.count("\n| ") >= len(FAULTS)


def test_outputs_without_signal_are_inconclusive_and_not_passed(export_mine, tmp_path, state_dict):
    """Any comparison would pass: every image gets the same scores."""
    flat = {key: tensor * (1e-9 if key == "classifier.weight" else 1) for key, tensor in state_dict.items()}
    torch.save(flat, tmp_path / "flat.pth")

    with pytest.raises(exporter.ParityError, match="inconclusive: the eager model gives every input the same scores"):
        export_mine(checkpoint=tmp_path / "flat.pth")
    assert not (tmp_path / "mine").exists()


def test_a_network_that_is_not_a_number_is_not_compared(export_mine, tmp_path, state_dict):
    torch.save({**state_dict, "classifier.bias": torch.full((4,), float("nan"))}, tmp_path / "nan.pth")

    with pytest.raises(exporter.ParityError, match="the eager model itself gives NaN"):
        export_mine(checkpoint=tmp_path / "nan.pth")
