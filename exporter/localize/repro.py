"""Reproduction of a faulty node: what changed in it, and a folder with a script that runs it alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from exporter.localize.location import FaultLocation

_SCRIPT = '''"""{title}

{origin}
Runs node.onnx on the inputs that eager PyTorch has there, and compares with what it gives: needs onnxruntime and numpy.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

FOLDER = Path(__file__).parent
LIMIT = {limit!r}

with np.load(FOLDER / "case.npz", allow_pickle=False) as case:
    inputs = {{name.removeprefix("input/"): case[name] for name in case.files if name.startswith("input/")}}
    expected = {{name.removeprefix("expected/"): case[name] for name in case.files if name.startswith("expected/")}}

session = onnxruntime.InferenceSession(FOLDER / "node.onnx", providers=["CPUExecutionProvider"])
names = list(expected)
wrong = False
for name, actual in zip(names, session.run(names, inputs)):
    if actual.shape != expected[name].shape:
        print(f"{{name}}: expected shape {{list(expected[name].shape)}}, got {{list(actual.shape)}}")
        wrong = True
        continue
    difference = np.abs(actual.astype(np.float64) - expected[name].astype(np.float64)).max(initial=0.0)
    wrong = wrong or not difference <= LIMIT
    print(f"{{name}}: expected at most {{LIMIT:.1e}} from eager, got {{difference:.1e}}")
sys.exit(1 if wrong else 0)
'''


def write_case(
    folder: Path,
    location: FaultLocation,
    model: onnx.ModelProto,
    inputs: Mapping[str, NDArray[Any]],
    expected: Mapping[str, NDArray[Any]],
) -> None:
    """Write ``node.onnx``, ``case.npz`` and ``run.py``, which exits with 1 as long as the node is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "node.onnx").write_bytes(model.SerializeToString(deterministic=True))
    arrays = {f"input/{name}": array for name, array in inputs.items()}
    arrays |= {f"expected/{name}": array for name, array in expected.items()}
    with (folder / "case.npz").open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    script = _SCRIPT.format(
        title=f"Node '{location.node}' ({', '.join(location.operators)}) for the input '{location.input}'.",
        origin=f"It is from {location.origin.describe()}.\n".replace("\\", "\\\\").replace('"""', "'''"),
        limit=location.limit,
    )
    (folder / "run.py").write_text(script, encoding="utf-8")


def describe_change(graph: onnx.ModelProto, fresh: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> tuple[str, ...]:
    """Return in words how nodes of ``graph`` differ from those of ``fresh`` that compute the same values."""
    by_output = {name: node for node in fresh.graph.node for name in node.output}
    constants = {value.name: value for value in graph.graph.initializer}
    expected = {value.name: value for value in fresh.graph.initializer}
    changes: list[str] = []
    for node in nodes:
        other = by_output.get(node.output[0])
        if other is None:
            changes.append(f"{node.op_type} '{node.name}' is not there in a fresh conversion")
            continue
        if node.op_type != other.op_type:
            changes.append(f"expected {other.op_type}, got {node.op_type}")
            continue
        changes += _attributes(node, other)
        for name, fresh_name in zip(node.input, other.input, strict=False):
            if name in constants and fresh_name in expected:
                changes += _constant(constants[name], expected[fresh_name])
            elif name != fresh_name and name.rpartition("/")[2] != fresh_name.rpartition("/")[2]:
                changes.append(f"takes '{name}': expected '{fresh_name}'")
        if len(node.input) != len(other.input):
            changes.append(f"expected {len(other.input)} inputs, got {len(node.input)}")
    return tuple(changes)


def _attributes(node: onnx.NodeProto, other: onnx.NodeProto) -> list[str]:
    own, fresh = ({attribute.name: _text(attribute) for attribute in each.attribute} for each in (node, other))
    return [
        f"{name}: expected {fresh.get(name, 'none')}, got {own.get(name, 'none')}"
        for name in sorted(own | fresh)
        if own.get(name) != fresh.get(name)
    ]


def _text(attribute: onnx.AttributeProto) -> str:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.GraphProto):
        return f"a graph of {len(value.node)} nodes"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _constant(tensor: onnx.TensorProto, other: onnx.TensorProto) -> list[str]:
    own, fresh = numpy_helper.to_array(tensor), numpy_helper.to_array(other)
    if own.shape != fresh.shape or own.dtype != fresh.dtype:
        return [f"'{tensor.name}': expected {fresh.dtype} {list(fresh.shape)}, got {own.dtype} {list(own.shape)}"]
    if np.array_equal(own, fresh):
        return []
    if own.dtype.kind not in "fiu":
        return [f"'{tensor.name}': another constant"]
    differing = int((own != fresh).sum())
    largest = float(np.abs(own.astype(np.float64) - fresh.astype(np.float64)).max())
    return [f"'{tensor.name}': {differing} of {own.size} values differ, by up to {largest:.1e}"]
