"""The committed test artifact: a tiny trained network, photos and small graphs in tests/data."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import net
import numpy as np
import onnx
import torch
import training
from onnx import TensorProto, helper, numpy_helper

import exporter
from material.shipped import shipped_photos

DATA = Path(__file__).parents[2] / "tests" / "data"

PHOTOS = {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket", "astronaut": "astronaut"}

FLOAT = TensorProto.FLOAT


def build_graphs() -> dict[str, onnx.GraphProto]:
    """Return small float32 graphs by name; all lengths of their inputs are dynamic."""
    node = helper.make_node
    two, minus_one = (numpy_helper.from_array(np.array([value]), name) for name, value in (("two", 2), ("end", -1)))
    inner = helper.make_graph([node("Identity", ["x"], ["z"])], "inner", [], [_value("z", 1)])
    return {
        "matmul": _graph([node("MatMul", ["x", "w"], ["y"])], {"x": 2, "w": 2}, 2),
        "conv": _graph([node("Conv", ["x", "w"], ["y"])], {"x": 4, "w": 4}, 4),
        # No CUDA provider has Det.
        "det": _graph([node("MatMul", ["x", "w"], ["z"]), node("Det", ["z"], ["y"])], {"x": 3, "w": 2}, 1),
        # A length is multiplied as a number, and then added to the values.
        "shapes": _graph(
            [
                node("Shape", ["x"], ["all"], "shape"),
                node("Gather", ["all", "end"], ["one"], "last"),
                node("Mul", ["one", "two"], ["more"], "product"),
                node("Cast", ["more"], ["number"], "float", to=FLOAT),
                node("MatMul", ["x", "w"], ["z"], "values"),
                node("Add", ["z", "number"], ["y"], "sum"),
            ],
            {"x": 2, "w": 2},
            2,
            [two, minus_one],
        ),
        # A condition that never changes, and a branch with the input in it.
        "branch": _graph(
            [node("If", ["always"], ["y"], "if", then_branch=inner, else_branch=inner)],
            {"x": 1},
            1,
            [numpy_helper.from_array(np.array(True), "always")],
        ),
    }


def _graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, int],
    output_rank: int,
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.GraphProto:
    values = [_value(name, rank) for name, rank in inputs.items()]
    return helper.make_graph(nodes, "graph", values, [_value("y", output_rank)], constants)


def _value(name: str, rank: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, [f"{name}{axis}" for axis in range(rank)])


if __name__ == "__main__":
    shipped = shipped_photos()
    photos = {label: shipped[name] for label, name in PHOTOS.items()}
    torch.manual_seed(0)
    network = training.train(net.MyCNN(num_classes=len(PHOTOS)), list(photos.values()), net.transform)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, labels = Path(scratch) / "tiny.pth", Path(scratch) / "labels.txt"
        torch.save(network.state_dict(), checkpoint)
        labels.write_text("".join(f"{label}\n" for label in PHOTOS), encoding="utf-8")
        exporter.export(
            checkpoint,
            net.MyCNN,
            arguments={"num_classes": len(PHOTOS)},
            preprocess=net.transform,
            labels=labels,
            out=DATA / "tiny",
            force=True,
        )
    for label, photo in photos.items():
        photo.resize((photo.width // 2, photo.height // 2)).save(DATA / f"{label}.jpg", quality=85)
    (DATA / "graphs").mkdir(exist_ok=True)
    for name, graph in build_graphs().items():
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model)
        onnx.save(model, DATA / "graphs" / f"{name}.onnx")
