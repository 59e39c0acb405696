"""Several weights in one file: all are listed, one is chosen, and why is said."""

import argparse
import datetime
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import exporter
from exporter.checkpoint import read_checkpoint
from exporter.checkpoint.load import load_tensors

RAW = {"fc.weight": torch.arange(6.0).view(2, 3), "bn.running_mean": torch.ones(2)}
EMA = {key: value + 10 for key, value in RAW.items()}


def entries(path: Path) -> list[str]:
    return [candidate.entry for candidate in read_checkpoint(path).candidates]


@pytest.fixture
def save(tmp_path):
    def write(content: object, **options: object) -> Path:
        path = tmp_path / "x.pth"
        torch.save(content, path, **options)
        return path

    return write


def test_candidates_of_two_levels_are_listed_and_the_usual_place_is_taken(save):
    path = save({"generator": {"weights": RAW}, "state_dict": RAW, "epoch": 3, "optimizer": {"state": RAW}})
    checkpoint = read_checkpoint(path)

    assert entries(path) == ["generator.weights", "state_dict"]
    assert checkpoint.entry == "state_dict"
    assert checkpoint.choice == "the usual key of 2"
    assert dict(checkpoint.leftovers) == {"epoch": "3", "optimizer": "1 entries"}


def test_weights_overrides_the_choice_and_an_unknown_one_lists_what_there_is(save):
    path = save({"a": {"weights": RAW}, "state_dict": EMA})

    checkpoint = read_checkpoint(path, weights="a.weights")

    assert torch.equal(load_tensors(checkpoint)["fc.weight"], RAW["fc.weight"])
    with pytest.raises(exporter.CheckpointError, match=r"no weights 'b'.*'a.weights' \(2 tensors\), 'state_dict'"):
        read_checkpoint(path, weights="b")


@pytest.mark.parametrize("name", ["ema", "state_dict_ema", "model_ema", "swa", "averaged"])
def test_averaged_weights_are_preferred_where_complete_and_that_is_said(save, name):
    checkpoint = read_checkpoint(save({"state_dict": RAW, name: EMA}))

    assert checkpoint.entry == name
    assert "averaged weights, complete" in checkpoint.choice
    assert torch.equal(load_tensors(checkpoint)["fc.weight"], EMA["fc.weight"])


def test_torchs_averaged_model_counts_as_complete(save):
    network = nn.Linear(3, 2)
    averaged = torch.optim.swa_utils.AveragedModel(network)

    assert read_checkpoint(save({"model": network.state_dict(), "ema": averaged.state_dict()})).entry == "ema"


def test_averaged_weights_without_the_buffers_are_not_taken_and_that_is_said(save):
    checkpoint = read_checkpoint(save({"state_dict": RAW, "ema": {"fc.weight": EMA["fc.weight"]}}))

    assert checkpoint.entry == "state_dict"
    assert "not 'ema': the averaged weights lack tensors" in checkpoint.choice


def test_data_beside_the_weights_is_skipped_without_being_imported(save):
    path = save(
        {
            "model": RAW,
            "args": argparse.Namespace(lr=0.1),
            "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
            "where": Path("/tmp/x"),  # noqa: S108
            "best": np.float64(0.5),
        }
    )

    assert set(read_checkpoint(path).leftovers) == {"args", "when", "where", "best"}


def test_a_lightning_checkpoint_is_recognized(save):
    content = {"pytorch-lightning_version": "2.4", "state_dict": RAW, "loops": {}, "callbacks": {"a": {"b": RAW}}}

    assert read_checkpoint(save(content)).format == "lightning"


def test_shared_tensors_and_views_come_back_as_they_were(save):
    base = torch.arange(12.0).view(3, 4)
    path = save({"a": base, "b": base, "t": base.t(), "row": base[1]})

    checkpoint = read_checkpoint(path)
    loaded = load_tensors(checkpoint)

    assert list(checkpoint.shared()) == [("a", "b")]
    assert torch.equal(loaded["t"], base.t())
    assert torch.equal(loaded["row"], base[1])
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr()


def test_writing_to_a_loaded_tensor_leaves_the_file_alone(save):
    path = save(RAW)
    before = path.read_bytes()

    load_tensors(read_checkpoint(path))["fc.weight"].fill_(7)

    assert path.read_bytes() == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_no_numbers_are_reported_by_key(save, dtype, bad):
    good, spoilt = torch.rand(5, 7).to(dtype), torch.rand(5, 7).to(dtype)
    spoilt[3, 2] = bad

    assert read_checkpoint(save({"good": good, "spoilt": spoilt})).non_finite == ("spoilt",)


def test_large_numbers_whose_sum_overflows_are_numbers(save):
    assert read_checkpoint(save({"w": torch.full((100,), 3e38)})).non_finite == ()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_type_is_read_as_it_was_saved(save, dtype, zipped):
    if dtype is torch.float8_e4m3fn and not zipped:
        pytest.skip("torch's legacy format has no storage class for it")
    tensor = torch.arange(6.0).to(dtype)

    checkpoint = read_checkpoint(save({"w": tensor, "empty": torch.zeros(0, 3)}, _use_new_zipfile_serialization=zipped))

    assert checkpoint.dtypes[str(dtype).removeprefix("torch.")] == 1
    assert torch.equal(load_tensors(checkpoint)["w"].double(), tensor.double())
    assert load_tensors(checkpoint)["empty"].shape == (0, 3)


def test_parameters_and_modules_saved_in_training_mode_are_tensors(save):
    path = save({"w": nn.Parameter(torch.ones(2)), "b": nn.Buffer(torch.ones(3))})

    assert read_checkpoint(path).shapes == {"w": (2,), "b": (3,)}


def test_a_torchscript_archive_gives_its_state_dict(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(network).save(tmp_path / "x.pt")

    checkpoint = read_checkpoint(tmp_path / "x.pt")

    assert checkpoint.format == "torchscript"
    loaded, expected = load_tensors(checkpoint), network.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_one_checkpoint(tmp_path, kind):
    shard_of = {}
    for number, key in enumerate(RAW):
        name = f"model-{number}.{kind}"
        shard_of[key] = name
        if kind == "safetensors":
            safetensors.torch.save_file({key: RAW[key]}, tmp_path / name)
        else:
            torch.save({key: RAW[key]}, tmp_path / name)
    (tmp_path / f"model.{kind}.index.json").write_text(json.dumps({"weight_map": shard_of}))

    checkpoint = read_checkpoint(tmp_path)

    assert checkpoint.container == "sharded"
    assert all(torch.equal(load_tensors(checkpoint)[key], value) for key, value in RAW.items())
    (tmp_path / f"model-1.{kind}").unlink()
    with pytest.raises(exporter.CheckpointError, match=r"shard 'model-1.*' is missing"):
        read_checkpoint(tmp_path)


def test_an_index_may_not_leave_its_folder(tmp_path):
    (tmp_path / "x.index.json").write_text('{"weight_map": {"w": "../secret.bin"}}')

    with pytest.raises(exporter.CheckpointError, match="outside the folder"):
        read_checkpoint(tmp_path)


def test_no_crc_in_the_archive_is_no_damage(save):
    torch.serialization.set_crc32_options(False)
    try:
        path = save(RAW)
    finally:
        torch.serialization.set_crc32_options(True)

    assert read_checkpoint(path).parameters == 8
