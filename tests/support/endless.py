"""The test artifact with a loop in its network that never ends on images of one gray, or on any."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support.hostile_files import rehash

# The one gray level of images that never end.
GRAY = 77

_OUTPUT, _FINITE = "probabilities", "finite_probabilities"


def make_endless(artifact: Path, *, tolerance: int = 0) -> None:
    """Change the network of an artifact in place: images within ``tolerance`` of ``GRAY`` never end.

    No golden input is, so that their outputs stay the same; with 255, none of them ends.
    """
    path = artifact / "network.onnx"
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    for node in graph.node:
        node.output[:] = [_FINITE if name == _OUTPUT else name for name in node.output]
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, dtype), name)
        for name, value, dtype in (
            ("endless/gray", GRAY, np.int32),
            ("endless/tolerance", tolerance, np.int32),
            ("endless/never", 0, np.int64),
            ("endless/ever", 2**62, np.int64),
            ("endless/true", True, np.bool_),
            ("endless/zero", 0, np.float32),
        )
    )
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Abs", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    graph.node.extend(
        [
            helper.make_node("Cast", ["pixels"], ["endless/pixels"], to=TensorProto.INT32),
            helper.make_node("Sub", ["endless/pixels", "endless/gray"], ["endless/differences"]),
            helper.make_node("Abs", ["endless/differences"], ["endless/distances"]),
            helper.make_node("ReduceMax", ["endless/distances"], ["endless/distance"], keepdims=0),
            helper.make_node("LessOrEqual", ["endless/distance", "endless/tolerance"], ["endless/is_gray"]),
            helper.make_node("Where", ["endless/is_gray", "endless/ever", "endless/never"], ["endless/count"]),
            helper.make_node("Loop", ["endless/count", "endless/true", "endless/zero"], ["endless/sum"], body=body),
            helper.make_node("Add", [_FINITE, "endless/sum"], [_OUTPUT]),
        ]
    )
    onnx.save(model, path)
    rehash(artifact, path.name)
