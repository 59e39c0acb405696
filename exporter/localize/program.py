"""Execution of an exported program of torch operators, node by node."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export.graph_signature import InputKind

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)\n\s*(?P<code>.*)')

# Folders whose frames lie between a user's line and an operator: torch's, and our own wrappers'.
_LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parents[1])


@dataclass(frozen=True, kw_only=True)
class ProgramValues:
    """Values of a program: those of its nodes by name, its own inputs, and its outputs, in order."""

    by_node: Mapping[str, NDArray[Any]]
    inputs: tuple[NDArray[Any], ...]
    outputs: tuple[NDArray[Any], ...]


@dataclass(frozen=True, kw_only=True)
class SourceLocation:
    """Origin of an operator: the module's path and class, and the user's own line that led to it.

    Fields are empty where torch does not say.
    """

    module: str
    kind: str
    file: str
    line: int
    code: str

    def describe(self) -> str:
        """Return it in words."""
        name = f"'{self.module}'" if self.module else "the network itself"
        kind = f" ({self.kind})" if self.kind else ""
        line = f", {self.file}:{self.line}: {self.code}" if self.file else ""
        return f"{name}{kind}{line}"


class _Recorder(torch.fx.Interpreter):
    """An interpreter that keeps the value of every node."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, NDArray[Any]] = {}

    def run_node(self, node: torch.fx.Node) -> Any:
        """Run a node, and keep its value if it is a tensor or a whole number."""
        value = super().run_node(node)
        if isinstance(value, torch.Tensor):
            self.values[node.name] = value.detach().cpu().numpy()
        elif isinstance(value, int) and not isinstance(value, bool):
            self.values[node.name] = np.array(value, dtype=np.int64)
        return value


def run_program(
    program: torch.export.ExportedProgram, inputs: Mapping[str, torch.Tensor], *, exact: bool = False
) -> ProgramValues:
    """Return the value of every node of a program for inputs by position; in float64 if ``exact``.

    Raises RuntimeError where the program itself names float32, so that it does not run in float64.
    """

    def convert(tensor: Any) -> Any:
        return tensor.to(torch.float64) if exact and torch.is_tensor(tensor) and tensor.is_floating_point() else tensor

    tensors = iter(inputs.values())
    arguments = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            arguments.append(convert(next(tensors)))
        elif spec.target in program.state_dict:
            arguments.append(convert(program.state_dict[spec.target]))
        else:
            arguments.append(convert(program.constants[spec.target or spec.arg.name]))
    recorder = _Recorder(program.graph_module)
    with torch.no_grad():
        outputs = recorder.run(*arguments)
    return ProgramValues(
        by_node=recorder.values,
        inputs=tuple(tensor.numpy() for tensor in inputs.values()),
        outputs=tuple(value.detach().numpy() for value in outputs if torch.is_tensor(value)),
    )


def source_location_of(program: torch.export.ExportedProgram, name: str, outputs: Sequence[str]) -> SourceLocation:
    """Return the origin of the node ``name``; a name among ``outputs`` stands for what the output node takes."""
    nodes = {node.name: node for node in program.graph.nodes}
    if name in outputs and name not in nodes:
        (output_node,) = (node for node in program.graph.nodes if node.op == "output")
        name = output_node.args[0][list(outputs).index(name)].name
    meta = nodes[name].meta if name in nodes else {}
    path, kind = next(reversed((meta.get("nn_module_stack") or {"": ("", "")}).values()))
    path = "" if path.startswith("_") else str(path).removeprefix("network").removeprefix(".")
    frames = [frame.groupdict() for frame in _FRAME.finditer(meta.get("stack_trace") or "")]
    own = [frame for frame in frames if not any(Path(frame["file"]).is_relative_to(folder) for folder in _LIBRARIES)]
    frame = own[-1] if own else {"file": "", "line": "0", "code": ""}
    return SourceLocation(
        module=path,
        kind=str(getattr(kind, "__name__", kind)).rpartition(".")[2] if path else "",
        file=frame["file"],
        line=int(frame["line"]),
        code=frame["code"].strip(),
    )
