"""Faults of onnxruntime: each one is still there, and no graph of ours meets it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from exporter.conversion.known_faults import KNOWN_FAULTS, avoid_known_faults
from exporter.conversion.to_onnx import to_onnx

# Negative everywhere, so that a zero beside the edge is the largest value.
NEGATIVE = -0.1 - np.abs(np.random.default_rng(0).normal(size=(2, 3, 9, 9))).astype(np.float32)


def pad_then_pool(*, cast: bool = False, **attributes: Any) -> onnx.ModelProto:
    pads = helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, 1, 1, 0, 0, 1, 1])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    kind = TensorProto.FLOAT16 if cast else TensorProto.FLOAT
    nodes = [
        helper.make_node("Pad", ["x", "pads", "zero"], ["padded"], mode="constant"),
        helper.make_node("Cast" if cast else "Identity", ["padded"], ["same"], **({"to": kind} if cast else {})),
        helper.make_node("MaxPool", ["same"], ["y"], kernel_shape=[3, 3], strides=[2, 2], **attributes),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 9, 9])]
    outputs = [helper.make_tensor_value_info("y", kind, ["batch", 3, "height", "width"])]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, [pads, zero])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, *, optimized: bool = True) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: NEGATIVE})[0]


# A graph that shows each fault.
PLANTED: dict[str, Callable[[], onnx.ModelProto]] = {"Pad_Fusion": pad_then_pool}


@pytest.mark.parametrize("fault", KNOWN_FAULTS, ids=lambda fault: fault.optimizer)
def test_a_fault_that_onnxruntime_no_longer_has_needs_no_row(fault):
    model = PLANTED[fault.optimizer]()

    wrong = not np.array_equal(run(model), run(model, optimized=False))

    assert wrong, f"onnxruntime {onnxruntime.__version__} has no '{fault.optimizer}' any more: remove the row"


@pytest.mark.parametrize(
    "attributes",
    [{}, {"pads": [0, 0, 0, 0]}, {"pads": [1, 1, 1, 1]}, {"ceil_mode": 1}, {"cast": True}],
    ids=str,
)
def test_a_rewritten_graph_means_the_same_whatever_is_optimized(attributes):
    model = pad_then_pool(**attributes)
    expected = run(model, optimized=False)

    rewritten = avoid_known_faults(model)

    onnx.checker.check_model(rewritten)
    assert np.array_equal(run(rewritten), expected)
    assert np.array_equal(run(rewritten, optimized=False), expected)


def test_a_max_pool_without_a_pad_before_it_keeps_its_bytes():
    model = pad_then_pool()
    model.graph.node[0].op_type, model.graph.node[0].input[:] = "Relu", ["x"]
    del model.graph.node[0].attribute[:]
    before = model.SerializeToString()

    assert avoid_known_faults(model).SerializeToString() == before


def test_a_network_that_pads_with_zeros_before_it_pools_is_converted_right():
    network = nn.Sequential(nn.ConstantPad2d(1, 0.0), nn.MaxPool2d(3, 2)).eval()
    x = torch.from_numpy(NEGATIVE)

    converted = to_onnx(network, {"x": x}, outputs=["y"], dimensions={"x": {0: "batch"}}, validation_inputs=[{"x": x}])

    assert not converted.fallback
    assert np.array_equal(run(converted.model), network(x).numpy())
