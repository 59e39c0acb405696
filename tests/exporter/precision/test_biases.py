"""Biases that are corrected for the rounding of weights."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.precision.biases import correct_biases, measure_means
from exporter.precision.graphs import NetworkGraph
from exporter.precision.int8 import quantize_static
from exporter.precision.promises import _in_ranges
from exporter.precision.ranges import measure_ranges
from exporter.precision.scores import run_network


def convolution(groups: int) -> NetworkGraph:
    """Return a network of one convolution without padding: its mean shift is exact."""
    generator = np.random.default_rng(groups)
    weight = generator.normal(size=(6, 6 // groups, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", group=groups)],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 6, 7, 7])],
        [
            numpy_helper.from_array(weight.astype(np.float32), "w"),
            numpy_helper.from_array(generator.normal(size=6).astype(np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return NetworkGraph(
        model=model, weighted={"conv": "conv"}, weights={"conv": "w"}, inner=("conv",), ends=("conv",), tables=()
    )


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_the_mean_of_each_channel_stays_that_of_fp32(groups):
    network = convolution(groups)
    generator = np.random.default_rng(0)
    # Positive, as after a ReLU, and different from channel to channel.
    inputs = [
        {"x": (generator.random((1, 6, 9, 9)) * np.arange(1, 7).reshape(1, 6, 1, 1)).astype(np.float32)}
        for _ in range(40)
    ]
    ranges = measure_ranges(network.model, inputs, "min-max")
    means = measure_means(network.model, inputs)
    nothing = {name: np.zeros_like(values) for name, values in means.items()}

    def shift(channel_means: dict[str, np.ndarray]) -> float:
        quantized = quantize_static(network, ranges, channel_means, reduce_range=True)
        outputs = zip(run_network(quantized.model, inputs), run_network(network.model, inputs), strict=True)
        return float(np.abs(np.mean([own["y"] - full["y"] for own, full in outputs], axis=(0, 1, 3, 4))).max())

    assert not list(_in_ranges(network, quantize_static(network, ranges, means, reduce_range=True), ranges, inputs))
    assert means["x"] == pytest.approx(np.arange(1, 7) / 2, rel=0.05)
    assert shift(means) < shift(nothing) / 3


def test_a_bias_that_two_nodes_read_stays_as_it_is():
    network = convolution(1)
    inputs = [{"x": np.ones((1, 6, 9, 9), np.float32)}]
    quantized = quantize_static(
        network, measure_ranges(network.model, inputs, "min-max"), {"x": np.zeros(6)}, reduce_range=True
    )
    node = next(node for node in quantized.model.graph.node if node.name == "conv")
    other = onnx.NodeProto()
    other.CopyFrom(node)
    other.name, other.output[0] = "other", "z"
    quantized.model.graph.node.append(other)
    before = quantized.model.SerializeToString(deterministic=True)

    correct_biases(quantized.model, network.model, ["conv"], {"x": np.ones(6)})

    assert quantized.model.SerializeToString(deterministic=True) == before
