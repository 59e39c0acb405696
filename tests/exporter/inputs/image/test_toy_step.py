"""A preprocessing step from outside the packages runs in every execution, equal to the training transform."""

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from support import toy_step
from support.toy_step import AdjustGamma, Gamma
from torchvision import transforms

import exporter
from exporter.backends.registry import geometry_executions
from exporter.conversion.to_torchscript import script
from exporter.inputs.image import RGB, Geometry, TrainingTransform, geometry_nodes, read_transform
from exporter.inputs.image.made_images import drawings_of
from exporter.inputs.image.pixel_check import PixelCheck, PixelRow, compare_pixels
from runtime.geometry.preparation import prepare, prepare_mask
from runtime.manifest import GeometryStep

SIZES = ((1, 1), (13, 17), (61, 44), (90, 130))


@pytest.fixture
def reading(monkeypatch) -> TrainingTransform:
    """A transform with the step between steps of ours."""
    toy_step.register(monkeypatch)
    steps = [transforms.Resize(40), AdjustGamma(2.2), transforms.CenterCrop(33), transforms.ToTensor()]
    return read_transform(transforms.Compose(steps))


def rows_of(reading: TrainingTransform) -> list[PixelRow]:
    """Return each execution's pixels after each step of the transform, on made images, compared with its own."""
    check = PixelCheck(reading=reading, pixels=RGB, executions=geometry_executions())
    return compare_pixels(check.step_tests(reading.prefixes), RGB, drawings_of(SIZES))


def noise(height: int, width: int) -> Image.Image:
    random = np.random.default_rng(height * 1000 + width)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_the_reader_gives_its_type_between_the_others(reading):
    assert [type(step).__name__ for step in reading.steps.geometry] == ["Resize", "Gamma", "CenterCrop"]
    assert reading.steps.geometry[1] == Gamma(exponent=2.2)
    assert (reading.steps.height, reading.steps.width, reading.steps.channels) == (33, 33, 3)
    assert "Gamma 2.2, CenterCrop 33" in reading.describe()


def test_every_execution_gives_the_transforms_pixels(reading):
    """Made images through model.onnx, the host and TorchScript, after each step, as 'truecopy parity' compares them."""
    rows = rows_of(reading)

    assert {(row.step, row.path) for row in rows} == {
        (step, path)
        for step in ("1 of 4, 'Resize'", "2 of 4, 'AdjustGamma'", "3 of 4, 'CenterCrop'")
        for path in ("model.onnx", "runtime", "model.torchscript")
    }
    assert all(row.difference == 0 and row.images == 4 * len(SIZES) for row in rows), rows


@pytest.mark.parametrize("exponent", [0.4, 1.0, 3.0])
def test_images_arrays_onnx_and_torchscript_agree(exponent, monkeypatch):
    toy_step.register(monkeypatch)
    reading = read_transform(transforms.Compose([AdjustGamma(exponent), transforms.ToTensor()]))
    geometry = reading.steps.geometry
    nodes = geometry_nodes(reading.steps, image="x", pixels="y")
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, ["n", "h", "w", 3]) for name in ("x", "y")
    ]
    graph = onnx.helper.make_graph(nodes.nodes, "geometry", values[:1], values[1:], list(nodes.constants.values()))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    module = script(Geometry(reading.steps))
    for height, width in SIZES:
        image = noise(height, width)
        expected = np.asarray(transforms.functional.adjust_gamma(image, exponent))
        batch = np.asarray(image)[np.newaxis]
        assert np.array_equal(prepare(image, geometry), expected)
        assert np.array_equal(prepare(np.asarray(image), geometry), expected)
        assert np.array_equal(session.run(None, {"x": batch})[0][0], expected)
        assert np.array_equal(module(torch.from_numpy(batch.copy()))[0].numpy(), expected)
    assert (exponent == 1.0) == np.array_equal(expected, np.asarray(image))


def test_a_wrong_execution_is_named_by_its_step_and_path(reading, monkeypatch):
    monkeypatch.setattr(toy_step, "run_on_image", lambda image, _: image)  # the host without the native kernel
    monkeypatch.setattr(toy_step, "run_on_array", lambda pixels, _: pixels)  # and with it

    wrong = {(row.step, row.path) for row in rows_of(reading) if row.difference}

    assert wrong == {("2 of 4, 'AdjustGamma'", "runtime"), ("3 of 4, 'CenterCrop'", "runtime")}


def test_masks_are_resized_and_cropped_around_it(reading):
    mask = np.random.default_rng(0).integers(0, 4, (50, 70), dtype=np.uint8)
    others = [step for step in reading.steps.geometry if not isinstance(step, Gamma)]

    prepared = prepare_mask(mask, reading.steps.geometry, ignored=255)

    assert prepared.shape == (33, 33)
    assert np.array_equal(prepared, prepare_mask(mask, others, ignored=255))


def test_its_type_is_one_more_of_the_manifests():
    """The name in ``GeometryStep`` is all that reading it from truecopy.json takes."""
    step = Gamma(exponent=2.2)
    text = msgspec.json.encode(step)

    assert msgspec.json.decode(text, type=GeometryStep | Gamma) == step
    with pytest.raises(msgspec.ValidationError, match="gamma"):
        msgspec.json.decode(text, type=GeometryStep)


def test_without_its_registry_lines_its_transform_is_refused():
    with pytest.raises(exporter.PreprocessingError, match="step 1 of 2, 'AdjustGamma': cannot be folded in"):
        read_transform(transforms.Compose([AdjustGamma(2.2), transforms.ToTensor()]))
