"""Raw outputs: the network's own arrays, in the structure that its forward returned."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from runtime.manifest import Entries, Items, Raw, Structure, TensorLeaf
from runtime.outputs.interpreter import Interpreter, stack_rows
from runtime.outputs.shown import ShownResult


class Outputs(ShownResult, frozen=True, kw_only=True):
    """The result of ``raw``: the network's own outputs as arrays, in the structure that its forward returned."""

    input: str
    outputs: Any

    def to_dict(self) -> dict[str, Any]:
        """Return the row, the arrays as nested lists."""
        return {"input": self.input, "outputs": _to_lists(self.outputs)}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return no array: the outputs are scores, and mean nothing beyond themselves."""
        return {}

    def __str__(self) -> str:
        return f"{self.input}: {_describe(self.outputs)}"


class RawInterpreter(Interpreter):
    """Gives arrays by name the structure that the forward returned: Outputs."""

    task: Raw
    result_type = Outputs

    def split(
        self, outputs: Mapping[str, NDArray[Any]], *, batched: frozenset[str], count: int
    ) -> Sequence[dict[str, NDArray[Any]]]:
        """Return one dictionary of arrays per input; all share the outputs without a batch dimension."""
        return [
            {name: array[row] if name in batched else array for name, array in outputs.items()} for row in range(count)
        ]

    def join(
        self, entries: Sequence[Mapping[str, NDArray[Any]]], *, names: Sequence[str], batched: frozenset[str]
    ) -> dict[str, NDArray[Any]]:
        """Return the outputs by name, those without a batch dimension as the first entry has them."""
        return {
            name: stack_rows(name, [entry[name] for entry in entries]) if name in batched else entries[0][name]
            for name in names
        }

    def interpret(self, scores: Any, *, name: str, top_k: int, threshold: float | None) -> Outputs:
        """Return the arrays in their structure."""
        del top_k, threshold
        return Outputs(input=name, outputs=_arrange(self.task.structure, scores))


def _arrange(structure: Structure, outputs: Mapping[str, NDArray[Any]]) -> Any:
    match structure:
        case TensorLeaf():
            return outputs[structure.output]
        case Items():
            return [_arrange(item, outputs) for item in structure.items]
        case Entries():
            return {key: _arrange(entry, outputs) for key, entry in structure.entries.items()}


def _to_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_lists(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_to_lists(entry) for entry in value]
    return value.tolist()


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_describe(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return "(" + ", ".join(_describe(entry) for entry in value) + ")"
    return f"{value.dtype} {list(value.shape)}" if value.ndim else f"{value.item():g}"
