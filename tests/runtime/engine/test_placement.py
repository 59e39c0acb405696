"""Shapes may be computed on the CPU, values may not: the graph says which is which."""

from pathlib import Path

from runtime.engine.placement import shape_nodes

GRAPHS = Path(__file__).parents[2] / "data" / "graphs"


def test_what_follows_from_shapes_and_constants_is_told_from_what_follows_from_values():
    """y = x @ w + length * two, where length is the last of x's shape: a number first, which then meets the values."""
    assert shape_nodes(GRAPHS / "shapes.onnx") == {"shape", "last", "product", "float"}


def test_a_graph_of_values_alone_has_none(tiny):
    assert shape_nodes(tiny / "network.onnx") == frozenset()
    assert shape_nodes((GRAPHS / "matmul.onnx").read_bytes()) == frozenset()


def test_a_whole_path_computes_sizes_and_then_pixels(tiny):
    found = shape_nodes(tiny / "model.onnx")

    assert found
    assert not any("Resize" in name or "Conv" in name for name in found)


def test_a_branch_may_use_values_that_its_inputs_do_not_name():
    """An If on a constant, which returns the graph's input from within."""
    assert shape_nodes(GRAPHS / "branch.onnx") == frozenset()
