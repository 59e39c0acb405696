"""Train the tiny network of tests/data, export it to tests/data/tiny; put photos and small graphs beside it."""

import io
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from PIL import Image

import exporter

DATA = Path(__file__).parents[1] / "tests" / "data"
sys.path.insert(0, str(DATA))

import net  # noqa: E402
import training  # noqa: E402

PHOTOS = {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket", "astronaut": "astronaut"}

# All inputs are float32, of lengths that the caller chooses.
GRAPHS = {
    "matmul": (["MatMul"], {"x": 2, "w": 2}, 2),
    "conv": (["Conv"], {"x": 4, "w": 4}, 4),
    "det": (["MatMul", "Det"], {"x": 3, "w": 2}, 1),  # which no CUDA provider has
}


def save_graph(path: Path, operators: list[str], inputs: dict[str, int], output_rank: int) -> None:
    """Save a chain of operators, the first on all inputs, each with as many dimensions as said."""
    names = [*(f"z{place}" for place in range(len(operators) - 1)), "y"]
    nodes = [
        helper.make_node(operator, [*inputs] if place == 0 else [names[place - 1]], [names[place]])
        for place, operator in enumerate(operators)
    ]

    def value(name: str, rank: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}{place}" for place in range(rank)])

    graph = helper.make_graph(
        nodes, path.stem, [value(name, rank) for name, rank in inputs.items()], [value("y", output_rank)]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


if __name__ == "__main__":
    folder = files("exporter.parity") / "photos"
    photos = {
        label: Image.open(io.BytesIO((folder / f"{name}.jpg").read_bytes())).convert("RGB")
        for label, name in PHOTOS.items()
    }
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
    for name, (operators, inputs, output_rank) in GRAPHS.items():
        save_graph(DATA / "graphs" / f"{name}.onnx", operators, inputs, output_rank)
