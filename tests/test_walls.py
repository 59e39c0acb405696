"""The walls of the design, read from the source: who may import what."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "runtime").rglob("*.py"), *(ROOT / "exporter").rglob("*.py")])


def imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports, type-checking blocks included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def uses(path: Path, attribute: str) -> bool:
    """Return whether a file says ``module.name`` anywhere in its code."""
    module, name = attribute.split(".")
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.value, ast.Name)
        and node.value.id == module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def test_the_runtime_imports_nothing_from_beyond_the_wall():
    beyond = {"torch", "torchvision", "onnx", "onnxscript", "exporter"}
    offenders = {
        (str(path.relative_to(ROOT)), name)
        for path in FILES
        if path.is_relative_to(ROOT / "runtime")
        for name in imports(path)
        if name.partition(".")[0] in beyond
    }
    assert not offenders


def test_one_file_of_the_runtime_imports_onnxruntime():
    found = {path for path in (ROOT / "runtime").rglob("*.py") if "onnxruntime" in imports(path)}
    assert found == {ROOT / "runtime/engine/library.py"}


@pytest.mark.parametrize(
    ("attribute", "owner"),
    [("torch.jit", "exporter/conversion/to_torchscript.py"), ("torch.onnx", "exporter/conversion/to_onnx.py")],
)
def test_one_file_knows_each_converter(attribute, owner):
    found = {path for path in FILES if attribute in imports(path) or uses(path, attribute)}
    assert found == {ROOT / owner}


def test_no_room_is_called_utils_and_none_hides_a_library():
    names = {path.stem for path in FILES} | {
        path.name for path in [*(ROOT / "runtime").iterdir(), *(ROOT / "exporter").iterdir()]
    }
    assert not names & {"utils", "helpers", "common", "core", "onnx", "http", "types", "torch", "numpy", "typer"}
