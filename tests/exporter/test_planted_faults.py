"""Faults, each of which somebody has shipped: the proof catches it, names its stage, and nothing is written."""

from dataclasses import replace

import msgspec
import pytest
import torch
from PIL import Image

import exporter
from exporter import converting, endings
from exporter.fronts import images


def plant_wrong_mean(monkeypatch):
    """The graph is written with ImageNet's mean, the transform has another."""
    original = images.arithmetic_nodes

    def arithmetic_nodes(preprocessing, **names):
        to_float, normalize = preprocessing.arithmetic
        wrong = msgspec.structs.replace(normalize, mean=(0.485, 0.456, 0.406))
        return original(msgspec.structs.replace(preprocessing, arithmetic=(to_float, wrong)), **names)

    monkeypatch.setattr(images, "arithmetic_nodes", arithmetic_nodes)


def plant_swapped_channels(monkeypatch):
    """The decoder gives BGR."""
    from runtime.decode import images as decode

    original = decode._load

    def load(image, spec, subject):
        red, green, blue = original(image, spec, subject).image.split()
        return decode.DecodedImage(image=Image.merge("RGB", (blue, green, red)), turned=False)

    monkeypatch.setattr(decode, "_load", load)


def plant_floor_crop(monkeypatch):
    """The crop starts at the floor of the half, as in most hand-written loops."""
    from runtime import geometry

    monkeypatch.setattr(geometry, "crop_origin", lambda size, crop, _rounding: (size - crop) // 2)


def plant_train_mode(monkeypatch):
    """Somebody forgot eval(): batch statistics and dropout go into the trace; torch.onnx itself calls eval()."""
    original = images.trace
    monkeypatch.setattr(images, "trace", lambda network, example: original(network.train(), example))


def plant_missing_softmax(monkeypatch):
    original = endings.Ending.nodes
    monkeypatch.setattr(endings.Ending, "nodes", lambda ending: original(replace(ending, activation="none")))


def plant_other_weights(monkeypatch):
    """One layer from another epoch."""
    original = converting.to_onnx

    def to_onnx(network, example, **options):
        with torch.no_grad():
            network.classifier.weight[0] *= 1.02
        return original(network, example, **options)

    monkeypatch.setattr(converting, "to_onnx", to_onnx)


def plant_nearest_resize(monkeypatch):
    from runtime import geometry

    monkeypatch.setitem(geometry._FILTERS, "bilinear", Image.Resampling.NEAREST)


@pytest.mark.parametrize(
    ("plant", "stage"),
    [
        (plant_wrong_mean, "model.onnx, stage 'arithmetic'"),
        (plant_swapped_channels, "runtime, stage 'decode'"),
        (plant_floor_crop, "runtime, stage 'geometry'"),
        (plant_nearest_resize, "runtime, stage 'geometry'"),
        (plant_train_mode, "stage 'network'"),
        (plant_missing_softmax, "model.onnx, stage 'activation'"),
        (plant_other_weights, "stage 'network'"),
    ],
)
def test_a_planted_fault_is_caught_its_stage_named_and_nothing_written(
    plant, stage, export_mine, monkeypatch, tmp_path
):
    plant(monkeypatch)

    with pytest.raises(exporter.ParityError) as caught:
        export_mine()

    assert "not equal to the eager model" in str(caught.value)
    assert stage in str(caught.value)
    assert caught.value.report.verdict == "failed"
    assert list(tmp_path.iterdir()) == []


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
