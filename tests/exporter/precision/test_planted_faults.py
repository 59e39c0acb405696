"""Faults of quantizing, planted: the promises, the gate or verify find each, and name it."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from mutation.planting import rehash
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod

from exporter.errors import ParityError
from exporter.precision import int8, ranges, search
from exporter.precision.data import Arrays
from exporter.precision.quantize import quantize
from runtime.artifact.open import open_artifact
from runtime.verify import verify

Change = Callable[[onnx.ModelProto], None]


def scaled(model: onnx.ModelProto, suffix: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the first constant whose name ends so."""
    tensor = next(value for value in model.graph.initializer if value.name.endswith(suffix))
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), tensor.name))


def exchanged(model: onnx.ModelProto, suffix: str, other: str) -> None:
    """Give a constant the values of another layer's, as many as it has."""
    tensors = {
        name: next(value for value in model.graph.initializer if value.name.endswith(name)) for name in (suffix, other)
    }
    own, others = (numpy_helper.to_array(tensors[name]) for name in (suffix, other))
    tensors[suffix].CopyFrom(numpy_helper.from_array(np.resize(others, own.shape), tensors[suffix].name))


FAULTS_IN_GRAPHS: dict[str, tuple[Change, str]] = {
    "weight scale off by 2": (
        lambda model: scaled(model, "features.4.weight_scale", lambda array: array * 2),
        r"the weight of 'features\.4' is off by [\d.]+ steps of its scale",
    ),
    "weight zero point off by 1": (
        lambda model: scaled(model, "features.4.weight_zero_point", lambda array: array + 1),
        r"the weight of 'features\.4' is off by 1(\.\d+)? steps",
    ),
    "activation scale off by 2": (
        lambda model: scaled(model, "relu_1_scale", lambda array: array * 2),
        "the activation 'relu_1' is quantized from .* its scale or zero point is wrong",
    ),
    "bias scale off by 2": (
        lambda model: scaled(model, "features.4.weight_bias_quantized_scale", lambda array: array / 2),
        r"the bias of 'features\.4' has another scale than its input and weight have together",
    ),
    "bias off by 100 steps": (
        lambda model: scaled(model, "features.4.weight_bias_quantized", lambda array: array + 100),
        r"the bias of 'features\.4' is off by [\d.]+ steps of its scale",
    ),
    "weight scale of another layer": (
        lambda model: exchanged(model, "features.4.weight_scale", "features.0.weight_scale"),
        r"the weight of 'features\.4' is off by [\d.]+ steps of its scale",
    ),
    "activation scale of another layer": (
        lambda model: exchanged(model, "relu_1_scale", "relu_scale"),
        "the activation 'relu_1' is quantized from .* its scale or zero point is wrong",
    ),
    "activation zero point off by 1": (
        lambda model: scaled(model, "relu_zero_point", lambda array: array + 1),
        "the activation 'relu' is quantized from .* its scale or zero point is wrong",
    ),
}


@pytest.fixture
def refused(tiny, request_for, tmp_path) -> Callable[[], str]:
    """Quantize with what is planted, and return why nothing was written."""

    def run() -> str:
        with pytest.raises(ParityError, match="Nothing was written") as caught:
            quantize(tiny, request_for(), out=tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    return run


@pytest.fixture
def one_way(monkeypatch) -> None:
    """Only min-max ranges, without a choice: the search must not evade what is planted."""
    monkeypatch.setattr(search, "RANGE_METHODS", ("min-max",))


@pytest.mark.parametrize("name", FAULTS_IN_GRAPHS)
def test_a_wrong_constant_is_found_by_its_module_or_activation(refused, monkeypatch, one_way, name):
    plant, words = FAULTS_IN_GRAPHS[name]
    honest = int8._with_pairs

    def planted(*arguments: object, **options: object) -> onnx.ModelProto:
        model = honest(*arguments, **options)
        if any(value.name == "features.4.weight_scale" for value in model.graph.initializer):
            plant(model)
        return model

    monkeypatch.setattr(int8, "_with_pairs", planted)
    monkeypatch.setattr(search.StaticSearch, "_ways", lambda self, _: iter([self._quantize("min-max", ())]))

    assert re.search(words, refused())


def test_weights_per_tensor_are_found_where_per_channel_was_promised(refused, monkeypatch):
    class PerTensor(int8.QDQQuantizer):
        def __init__(self, model: onnx.ModelProto, _per_channel: bool, *others: object) -> None:
            super().__init__(model, False, *others)

    monkeypatch.setattr(int8, "QDQQuantizer", PerTensor)

    assert "has one scale, and per channel was promised" in refused()


def test_weights_of_an_earlier_checkpoint_are_found(refused, monkeypatch, one_way):
    honest = search.quantize_static

    def planted(network, *others, **options):
        earlier = onnx.ModelProto()
        earlier.CopyFrom(network.model)
        # A step of training ago, each weight was a little different.
        scaled(earlier, "features.4.weight", lambda array: array + np.float32(0.02) * np.sign(array))
        return honest(replace(network, model=earlier), *others, **options)

    monkeypatch.setattr(search, "quantize_static", planted)

    assert re.search(r"the weight of 'features\.4' is off by [\d.]+ steps of its scale", refused())


def other_data(inputs: Sequence[Arrays], fault: str) -> list[Arrays]:
    """Return photos in BGR, noise, or photos cropped a few pixels beside the crop that the runtime makes."""
    generator = np.random.default_rng(0)
    changes = {
        "BGR": lambda array: array[..., ::-1],
        "noise": lambda array: generator.integers(0, 256, array.shape, dtype=np.uint8),
        "another crop": lambda array: np.pad(array[:, 3:, 5:], ((0, 0), (0, 3), (0, 5), (0, 0)), mode="edge"),
    }
    return [{name: changes[fault](array) for name, array in arrays.items()} for arrays in inputs]


@pytest.mark.parametrize("fault", ["BGR", "noise", "another crop"])
def test_ranges_of_other_data_are_found(refused, monkeypatch, fault):
    honest = search.measure_ranges
    monkeypatch.setattr(
        search, "measure_ranges", lambda network, inputs, method: honest(network, other_data(inputs, fault), method)
    )

    assert "calibration input 1 of 32 is not what the runtime prepares of it" in refused()


@pytest.mark.parametrize("fault", ["BGR", "noise", "another crop"])
def test_ranges_of_other_data_are_found_even_under_the_hashes_of_the_right_ones(refused, monkeypatch, one_way, fault):
    honest = search.measure_ranges

    def planted(network, inputs, method):
        right, wrong = honest(network, inputs, method), honest(network, other_data(inputs, fault), method)
        return ranges.Ranges(method=method, tensors=wrong.tensors, inputs=right.inputs)

    monkeypatch.setattr(search, "measure_ranges", planted)

    assert re.search("they are clipped|is wider than its values", refused())


def test_activations_that_are_clipped_at_99_percent_are_found(refused, monkeypatch):
    clipping = (CalibrationMethod.Percentile, {"percentile": 99.0})
    monkeypatch.setattr(ranges, "_METHODS", dict.fromkeys(ranges.RANGE_METHODS, clipping))

    message = refused()

    assert "of the values of " in message
    assert "they are clipped" in message


@pytest.mark.filterwarnings("ignore:.*no fast int8 instructions")
@pytest.mark.parametrize(
    ("suffix", "change"),
    [
        ("features.4.weight_scale", lambda array: array * 2),
        ("relu_1_zero_point", lambda array: array + 1),
        ("relu_1_scale", lambda array: array / 2),
    ],
)
def test_verify_finds_constants_that_were_changed_under_their_hashes(quantized, tmp_path, suffix, change):
    folder = tmp_path / "changed"
    shutil.copytree(quantized, folder)
    for name in ("network.int8.onnx", "model.int8.onnx"):
        model = onnx.load(folder / name, load_external_data=False)
        if not any(value.name.endswith(suffix) for value in model.graph.initializer):
            pytest.skip(f"this processor's best variant has no {suffix}")
        scaled(model, suffix, change)
        (folder / name).write_bytes(model.SerializeToString())
    rehash(folder)
    assert open_artifact(folder)

    failed = {check.name for check in verify(folder, precision="int8").checks if not check.passed}

    assert {"network", "end to end", "model.int8.onnx"} <= failed
    assert verify(folder).passed
