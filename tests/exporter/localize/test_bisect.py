"""A fault in one node of a network's graph is found there, and named with the line of source that it is from."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import exporter
from exporter.conversion.to_onnx import to_onnx, trace_program
from exporter.localize.bisect import ProbeInputs, locate

DIMENSIONS = {"x": {0: "batch"}}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(12)
        self.query = nn.Linear(12, 12)
        self.value = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = self.norm(x)
        weights = torch.softmax(self.query(given) @ given.transpose(1, 2), dim=-1)
        return x + weights @ self.value(given)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 12, 3, padding=1)
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.smooth = nn.GELU()
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.first(x).transpose(1, 2))
        return self.head(self.smooth(x).mean(dim=1))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def example():
    torch.manual_seed(1)
    return {"x": torch.randn(2, 3, 9)}


@pytest.fixture(scope="module")
def converted(network, example):
    return to_onnx(network, example, outputs=("logits",), dimensions=DIMENSIONS).model


@pytest.fixture(scope="module")
def traced(network, example):
    return trace_program(network, example, outputs=("logits",), dimensions=DIMENSIONS)


@pytest.fixture
def find(traced, example, converted, tmp_path):
    """Plant a fault in a copy of the graph, and locate it."""

    def run(plant):
        model = onnx.ModelProto()
        model.CopyFrom(converted)
        plant(model)
        onnx.save(model, tmp_path / "network.onnx")
        return locate(
            tmp_path / "network.onnx",
            traced,
            [ProbeInputs(name="one", tensors={"x": example["x"][:1]}), ProbeInputs(name="two", tensors=example)],
            outputs=("logits",),
            max_ratio=10.0,
            folder=tmp_path / "node",
        )

    return run


def nodes(model, operator):
    return [node for node in model.graph.node if node.op_type == operator]


def attribute(node, name, value):
    for old in [one for one in node.attribute if one.name == name]:
        node.attribute.remove(old)
    node.attribute.append(helper.make_attribute(name, value))


def change_weight(model, name):
    (tensor,) = [one for one in model.graph.initializer if one.name == name]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[7] += 0.01
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def test_a_sound_graph_has_no_such_node(find):
    assert find(lambda model: None) is None


def test_equal_nans_are_no_fault(network, example, tmp_path):
    class Filled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nan_to_num(torch.log(self.network(x)), nan=0.5)

    names = {"outputs": ("logits",), "dimensions": DIMENSIONS}
    onnx.save(to_onnx(Filled().eval(), example, **names).model, tmp_path / "network.onnx")
    traced = trace_program(Filled().eval(), example, **names)
    probes = [ProbeInputs(name="two", tensors=example)]

    found = locate(tmp_path / "network.onnx", traced, probes, outputs=("logits",), max_ratio=10.0, folder=tmp_path)

    assert found is None


@pytest.mark.parametrize("row", [0, 2, 3])
def test_a_changed_attribute_is_found_in_the_layer_that_it_belongs_to(find, row):
    found = find(lambda model: attribute(nodes(model, "LayerNormalization")[row], "epsilon", 1e-3))

    assert found.operators[-1] == "LayerNormalization"
    assert (found.origin.module, found.origin.kind) == (f"blocks.{row}.norm", "LayerNorm")
    assert found.origin.file == __file__
    assert found.origin.code == "given = self.norm(x)"
    assert found.changes == ("epsilon: expected 1e-05, got 0.001",)
    assert found.runs <= 8  # a search by halves, not one run a node


def test_a_wrong_axis_is_found(find):
    found = find(lambda model: attribute(nodes(model, "Softmax")[1], "axis", 1))

    assert found.operators[-1] == "Softmax"
    assert found.origin.module == "blocks.1"
    assert "softmax" in found.origin.code
    assert found.changes == ("axis: expected -1, got 1",)


def test_one_changed_weight_is_found_and_counted(find):
    found = find(lambda model: change_weight(model, "first.weight"))

    assert found.origin.module == "first"
    assert found.changes == ("'first.weight': 1 of 108 values differ, by up to 1.0e-02",)


def test_the_earlier_of_two_faults_is_found(find):
    def plant(model):
        attribute(nodes(model, "LayerNormalization")[1], "epsilon", 1e-3)
        attribute(nodes(model, "Gelu")[0], "approximate", "tanh")

    assert find(plant).origin.module == "blocks.1.norm"


def test_a_node_put_in_between_is_found_where_it_is(find):
    """As a pass for another precision does, whose nodes no source line has."""

    def plant(model):
        node = nodes(model, "Gelu")[0]
        place = list(model.graph.node).index(node)
        for offset, (given, output, kind) in enumerate(
            [(node.input[0], "half", onnx.TensorProto.FLOAT16), ("half", "whole", onnx.TensorProto.FLOAT)]
        ):
            model.graph.node.insert(place + offset, helper.make_node("Cast", [given], [output], to=kind))
        node.input[0] = "whole"

    found = find(plant)

    assert found.operators == ("Cast", "Cast", "Gelu")
    assert found.origin.module == "smooth"
    assert "is not there in a fresh conversion" in " ".join(found.changes)


def test_a_constant_of_the_traced_batch_is_found_although_it_fails(find):
    def plant(model):
        node = nodes(model, "Gelu")[0]
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, 9, 12]), "traced"))
        place = list(model.graph.node).index(node)
        model.graph.node.insert(place, helper.make_node("Reshape", [node.input[0], "traced"], ["fixed"]))
        node.input[0] = "fixed"

    found = find(plant)

    assert found.input == "two"
    assert found.origin.module == "smooth"
    assert found.finding.startswith("none: inputs: the network cannot run on these values")


def test_the_node_alone_runs_in_its_folder_and_shows_the_fault(find, tmp_path):
    found = find(lambda model: attribute(nodes(model, "LayerNormalization")[1], "epsilon", 1e-3))

    def run():
        command = [sys.executable, "-W", "error", str(found.folder / "run.py")]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/")

    done = run()
    assert done.returncode == 1, done.stderr
    assert "expected at most" in done.stdout
    text = (found.folder / "run.py").read_text()
    assert "'blocks.1.norm' (LayerNorm)" in text
    assert {line for line in text.splitlines() if line.startswith(("import", "from"))} == {
        *("import sys", "from pathlib import Path", "import numpy as np", "import onnxruntime")
    }
    # Mended, it passes: the folder is the case to work on.
    model = onnx.load(found.folder / "node.onnx")
    assert [node.op_type for node in model.graph.node] == ["LayerNormalization"]
    attribute(model.graph.node[0], "epsilon", 1e-5)
    onnx.save(model, found.folder / "node.onnx")
    assert run().returncode == 0


def test_a_graph_with_other_names_is_refused(find):
    def rename(model):
        for node in model.graph.node:
            node.input[:] = [f"{name}/x" if name not in ("", "x") else name for name in node.input]
            node.output[:] = [f"{name}/x" for name in node.output]
        for tensor in model.graph.initializer:
            tensor.name += "/x"
        model.graph.output[0].name += "/x"

    with pytest.raises(exporter.ConversionError, match="its values have other names than torch"):
        find(rename)
