"""Half precision: what stays in fp32, what is measured, and where it runs."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import truecopy
from exporter.errors import ParityError
from exporter.precision import search
from exporter.precision.fp16 import convert_half, measure_largest
from exporter.precision.graphs import NetworkGraph
from exporter.precision.quantize import quantize
from exporter.precision.scores import run_network
from exporter.precision.variant import VariantReport, VariantRequest
from runtime.artifact.open import open_artifact
from runtime.artifact.variants import device_for
from runtime.verify import verify


@pytest.fixture(scope="session")
def half(tiny, tmp_path_factory) -> VariantReport:
    """The tiny artifact with an fp16 variant, made without any data."""
    out = tmp_path_factory.mktemp("half") / "tiny"
    return quantize(tiny, VariantRequest(precision="fp16"), out=out)


def test_it_needs_no_data_and_says_where_it_was_measured(tiny, half):
    full, own = open_artifact(half.artifact).manifest.variants
    measured = own.approximation

    assert (full.precision, own.precision) == ("fp32", "fp16")
    assert (measured.verdict, measured.device, measured.data, measured.deferral) == ("approximate", "cpu", None, None)
    assert measured.quantization.method == "float16"
    assert measured.quantization.fp32_nodes == ()
    assert measured.agreement.equal == measured.agreement.inputs
    assert 0 < measured.agreement.score_difference < 2e-3
    weights = [(Path(half.artifact) / name).stat().st_size for name in ("weights.fp16.bin", "weights.bin")]
    assert weights[0] < 0.6 * weights[1]
    assert (Path(half.artifact) / "weights.bin").read_bytes() == (tiny / "weights.bin").read_bytes()


def test_its_graphs_are_valid_and_keep_their_types(half):
    for name in ("network.fp16.onnx", "model.fp16.onnx"):
        onnx.checker.check_model(str(Path(half.artifact) / name), full_check=True)
    model = onnx.load(Path(half.artifact) / "network.fp16.onnx")
    assert {value.name: value.data_type for value in model.graph.initializer}[
        "features.4.weight"
    ] == TensorProto.FLOAT16
    assert [value.type.tensor_type.elem_type for value in model.graph.output] == [TensorProto.FLOAT]
    # The arithmetic on pixels and the softmax stay in fp32: one cast into half precision, one out of it.
    assert [node.op_type for node in model.graph.node].count("Cast") == 3


def test_the_runtime_runs_verifies_and_names_it(tiny, half):
    with truecopy.load(half.artifact, precision="fp16", device="cpu") as own:
        row = own.predict(tiny.parent / "cat.jpg").to_dict()
    assert (row["label"], row["precision"]) == ("cat", "fp16")
    assert verify(half.artifact, precision="fp16").passed
    assert device_for(own.variant, "cuda") == "cuda"  # as fp32, and other than int8


def test_twice_is_the_same_bytes(tiny, half, tmp_path):
    quantize(tiny, VariantRequest(precision="fp16"), out=tmp_path / "again")

    for path in Path(half.artifact).iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_it_lies_beside_int8(quantized, request_for, crops, tmp_path):
    report = quantize(quantized, request_for(precision="fp16"), out=tmp_path / "both")

    manifest = open_artifact(report.artifact).manifest
    assert manifest.precisions == ("fp32", "int8", "fp16")
    assert manifest.variant("fp16").approximation.data.measured == report.approximation.agreement.inputs > 20
    assert verify(report.artifact, precision="int8").passed


def network(scales: tuple[float, float, float]) -> NetworkGraph:
    """Return three products in a row, of which each multiplies by about its scale."""
    generator = np.random.default_rng(0)
    names = ["x", "a", "b", "y"]
    nodes = [
        helper.make_node("MatMul", [names[number], f"w{number}"], [names[number + 1]], name=f"product{number}")
        for number in range(3)
    ]
    weights = [
        numpy_helper.from_array(
            (scale * np.linalg.qr(generator.normal(size=(4, 4)))[0]).astype(np.float32), f"w{number}"
        )
        for number, scale in enumerate(scales)
    ]
    shape = ["batch", 4]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        weights,
        value_info=[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b")],
    )
    products = tuple(node.name for node in nodes)
    return NetworkGraph(
        model=helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        weighted={name: name for name in products},
        weights={f"product{number}": f"w{number}" for number in range(3)},
        inner=products,
        ends=("product0", "product2"),
        tables=(),
    )


@pytest.mark.parametrize(
    ("scales", "kept"),
    [
        ((1.0, 1.0, 1.0), ()),
        ((1e6, 1e-6, 1.0), ("product0", "product1")),  # their result, and what the second takes, would overflow
        ((1e-6, 1e6, 1.0), ("product0", "product1")),  # too small for more than a few digits, and too large a weight
    ],
)
def test_nodes_that_would_overflow_or_lose_their_digits_stay_in_fp32(scales, kept):
    graph = network(scales)
    inputs = [{"x": np.full((1, 4), value, np.float32)} for value in (0.5, 1.0, 2.0)]

    half = convert_half(graph, measure_largest(graph.model, inputs))

    assert half.quantization.fp32_nodes == kept
    onnx.checker.check_model(half.model, full_check=True)
    for own, full in zip(run_network(half.model, inputs), run_network(graph.model, inputs), strict=True):
        assert own["y"] == pytest.approx(full["y"], abs=2e-3)


def test_a_result_that_two_nodes_in_fp32_read_is_cast_once():
    graph = network((1.0, 1.0, 1.0))
    (last,) = graph.model.graph.node[2:]
    last.output[0] = "c"
    graph.model.graph.node.insert(2, helper.make_node("Identity", ["b"], ["other"], name="other"))
    graph.model.graph.node.append(helper.make_node("Add", ["c", "other"], ["y"], name="sum"))
    graph.model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("c", "other")
    )
    inputs = [{"x": np.ones((1, 4), np.float32)}]

    half = convert_half(graph, measure_largest(graph.model, inputs), fp32_nodes=["product2"])

    onnx.checker.check_model(half.model, full_check=True)
    assert run_network(half.model, inputs)[0]["y"] == pytest.approx(run_network(graph.model, inputs)[0]["y"], abs=2e-3)


def test_a_number_that_becomes_infinite_is_refused(tiny, tmp_path, monkeypatch):
    """Whatever the ranges say, what comes out is compared."""
    monkeypatch.setattr(search, "measure_largest", lambda *_: {})
    artifact = tmp_path / "loud"
    shutil.copytree(tiny, artifact)
    honest = convert_half

    def loud(*arguments, **options):
        converted = honest(*arguments, **options)
        bias = next(value for value in converted.model.graph.initializer if value.name == "classifier.bias")
        bias.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(bias), np.inf), bias.name))
        return converted

    monkeypatch.setattr(search, "convert_half", loud)

    with pytest.raises(ParityError, match=r"fp16 gives NaN or infinity for \d+ of \d+ measured inputs, where fp32 has"):
        quantize(artifact, VariantRequest(precision="fp16"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
