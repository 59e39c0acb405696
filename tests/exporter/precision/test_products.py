"""Networks of texts with static ranges: smoothed exactly, chosen by a rule without times, and right in batches."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from mutation.planting import rehash
from onnx import TensorProto, helper, numpy_helper

import truecopy
from exporter.cli.quantize import print_report
from exporter.errors import ParityError
from exporter.precision import search, variant
from exporter.precision.data import read_data
from exporter.precision.deferral import BatchSpeed, measure_batches
from exporter.precision.graphs import NetworkGraph
from exporter.precision.promises import broken_smoothing
from exporter.precision.quantize import quantize
from exporter.precision.scores import run_network
from exporter.precision.smoothing import measure_channels, smooth
from exporter.precision.variant import VariantReport, VariantRequest
from runtime.manifest import Deferral
from runtime.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:.*no fast int8 instructions")


@pytest.fixture(scope="module")
def report(artifact: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> VariantReport:
    out = tmp_path_factory.mktemp("quantized") / "reader"
    return quantize(artifact, VariantRequest(calibration=texts, min_agreement=0.9), out=out)


def products(*, shared: bool = False) -> onnx.ModelProto:
    """Return two products of one activation, one of them turned around, whose channels differ a lot."""
    generator = np.random.default_rng(0)
    weights = {
        "first.weight": generator.normal(size=(8, 5)),
        "second.weight": generator.normal(size=(3, 8)),
        "bias": np.zeros(3),
        "scale": np.array([0.01, 50, 1, 1, 0.1, 3, 200, 1]),
    }
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["activation"], name="scaling"),
        helper.make_node("MatMul", ["activation", "first.weight"], ["one"], name="first"),
        helper.make_node("Gemm", ["activation", "second.weight", "bias"], ["two"], name="second", transB=1),
    ]
    outputs = [("one", 5), ("two", 3)]
    if shared:
        nodes.append(helper.make_node("Identity", ["first.weight"], ["again"], name="again"))
        outputs.append(("again", 5))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width]) for name, width in outputs],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def network_of(model: onnx.ModelProto) -> NetworkGraph:
    names = ("first", "second")
    return NetworkGraph(
        model=model,
        weighted={name: name for name in names},
        weights={name: f"{name}.weight" for name in names},
        inner=names,
        ends=names,
        tables=(),
    )


INPUTS = [{"x": np.random.default_rng(number).normal(size=(2, 8)).astype(np.float32)} for number in range(4)]


def smoothed(network: NetworkGraph) -> NetworkGraph:
    return smooth(network, measure_channels(network.model, INPUTS), 0.8)


def spread(network: NetworkGraph, tensor: str) -> float:
    """Return how many times as large the largest channel of a tensor is as its smallest."""
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    channels = np.max([np.abs(outputs[tensor]).max(axis=0) for outputs in run_network(model, INPUTS)], axis=0)
    return float(channels.max() / channels.min())


def test_smoothing_evens_channels_out_and_computes_the_same_to_the_last_bit():
    network = network_of(products())

    own = smoothed(network)

    assert spread(own, "activation_smoothed") < spread(network, "activation") / 100
    for expected, got in zip(run_network(network.model, INPUTS), run_network(own.model, INPUTS), strict=True):
        assert all(np.array_equal(expected[name], got[name]) for name in expected)
    assert broken_smoothing(network, own) == ""


def test_a_weight_that_something_else_reads_is_left_as_it_is():
    network = network_of(products(shared=True))

    assert smoothed(network).model.graph.node == network.model.graph.node


def test_weights_that_would_lose_their_last_bits_are_left_as_they_are():
    network = network_of(products())
    change("first.weight", 1e-39)(network.model)  # what weight decay leaves of a weight

    assert smoothed(network).model.graph.node == network.model.graph.node


def change(name: str, factor: float) -> Callable[[onnx.ModelProto], None]:
    def plant(model: onnx.ModelProto) -> None:
        tensor = next(value for value in model.graph.initializer if value.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[0] *= factor
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return plant


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (change("activation_smoothing", 2.0), "the smoothing of 'first' is not undone by its weight"),
        (change("second.weight", 2.0), "the smoothing of 'second' is not undone by its weight"),
        (change("second.weight", 1.0001), "the smoothing of 'second' is not undone by its weight"),
        (change("scale", 1.0001), "the constant 'scale' is not that of fp32"),
    ],
)
def test_a_wrong_factor_is_found_by_its_layer(plant, words):
    network = network_of(products())
    own = smoothed(network)
    plant(own.model)

    assert words in broken_smoothing(network, own)


def test_static_ranges_are_chosen_where_they_agree(report):
    chosen = report.approximation.quantization

    assert chosen.method == "static"
    assert {trial.quantization.method for trial in report.trials} == {"static", "dynamic"}
    assert verify(report.artifact, precision="int8").passed


def test_dynamic_ranges_are_chosen_where_scores_are_twice_as_close(artifact, texts, monkeypatch, tmp_path):
    request = VariantRequest(calibration=texts, min_agreement=0.9)
    monkeypatch.setattr(search, "_DYNAMIC_HANDICAP", 0.0)

    assert quantize(artifact, request, out=tmp_path / "out").approximation.quantization.method == "dynamic"


def test_batches_give_what_one_text_alone_gives(report):
    texts = ["good", "very very bad it is not good", "one two three", "bad bad bad bad", "bad"]
    with truecopy.load(report.artifact, precision="int8", batch=5) as model:
        alone = [model.predict(text) for text in texts]
        together = model.predict(texts)

    assert [result.label for result in together] == [result.label for result in alone]
    assert [result.probability for result in together] == pytest.approx([one.probability for one in alone], abs=1e-6)


def test_twice_is_the_same_bytes(artifact, texts, report, tmp_path):
    quantize(artifact, VariantRequest(calibration=texts, min_agreement=0.9), out=tmp_path / "again")

    for path in Path(report.artifact).iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_scale_of_another_layer_is_found_by_its_module(artifact, texts, monkeypatch, tmp_path):
    honest = search.quantize_static

    def planted(network, *others, **options):
        quantized = honest(network, *others, **options)
        constants = {value.name: value for value in quantized.model.graph.initializer}
        first, second = (
            constants[f"{network.weights[name]}_scale"]
            for name in list(quantized.nodes)[1:3]  # the first is the table
        )
        second.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first), second.name))
        return quantized

    monkeypatch.setattr(search, "quantize_static", planted)
    monkeypatch.setattr(search.ProductSearch, "_ways", lambda self, _: iter([self._quantize(0.8, ())]))

    with pytest.raises(ParityError, match=r"the weight of 'pool' is off by [\d.]+ steps of its scale"):
        quantize(artifact, VariantRequest(calibration=texts, min_agreement=0.9), out=tmp_path / "out")


def test_batches_are_measured_as_well(artifact, texts):
    with truecopy.load(artifact, device="cpu", threads=1) as model:
        measured = read_data(model, texts, 0.9).measured
        none, half = (measure_batches(model, model, measured, range(count)) for count in (0, len(measured)))

    assert none is not None
    assert half is not None
    assert (none.batch, half.batch) == (32, 32)
    assert none.own == none.pair
    assert half.pair < half.own


def test_a_pair_that_is_slower_in_batches_is_not_offered(artifact, texts, monkeypatch, tmp_path, capsys):
    fast = Deferral(
        limit=0.3, largest_margin=0.1, safety_factor=1.5, inputs=58, deferred=1, flips=0, risk=0.1, speed=1.15
    )
    monkeypatch.setattr(variant, "measure_deferral", lambda *_, **__: (fast, 0.001))
    offered = {}
    for pair in (1.2, 0.93):
        speed = BatchSpeed(batch=32, own=1.5, pair=pair)
        monkeypatch.setattr(variant, "measure_batches", lambda *_, speed=speed: speed)
        measured = quantize(artifact, VariantRequest(calibration=texts, min_agreement=0.9), out=tmp_path / f"{pair}")
        offered[pair] = measured.approximation.deferral.offered
    print_report(measured)

    assert offered == {1.2: True, 0.93: False}
    lines = " ".join(capsys.readouterr().out.split())
    assert "in batches of 32: 1.50 times as fast" in lines
    assert "0.93 times in batches of 32; expected at least 1.15" in lines


@pytest.mark.parametrize("suffix", ["_scale", "_zero_point"])
def test_verify_finds_constants_that_were_changed_under_their_hashes(report, tmp_path, suffix):
    folder = tmp_path / "changed"
    shutil.copytree(report.artifact, folder)
    model = onnx.load(folder / "model.int8.onnx", load_external_data=False)
    tensor = next(value for value in model.graph.initializer if value.name == "words.weight" + suffix)
    array = numpy_helper.to_array(tensor)
    changed = np.asarray(array * 2 if suffix == "_scale" else array + 9, array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    (folder / "model.int8.onnx").write_bytes(model.SerializeToString())
    rehash(folder)

    failed = {check.name for check in verify(folder, precision="int8").checks if not check.passed}

    assert {"network", "end to end"} <= failed
