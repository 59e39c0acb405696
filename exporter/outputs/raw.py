"""Raw outputs: every tensor that the network's forward returns, as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.conversion.network_io import Arrays, batch_first, take_apart
from exporter.conversion.node_builder import NodeBuilder
from exporter.errors import ConversionError
from exporter.options.task import TaskOptions
from exporter.outputs.interpreter import NO_PARTS, ReferenceInterpreter
from exporter.outputs.postprocessing import LOGITS, Named, Postprocessing
from runtime.manifest import BATCH, Entries, Items, Output, Raw, Structure, TensorLeaf
from runtime.outputs.raw import Outputs


class RawReference(ReferenceInterpreter):
    """Leaves eager's arrays as they are: they mean nothing beyond themselves."""

    task: Raw
    has_meaning = False

    def expected_result(self, outputs: Arrays, parts: Arrays = NO_PARTS) -> Arrays:
        """Return nothing."""
        del outputs, parts
        return {}

    def scores_of(self, result: Outputs, outputs: Sequence[Output]) -> Arrays:
        """Return the arrays by the names of their outputs, each as a batch of one where it has a batch dimension."""
        arrays: dict[str, NDArray[Any]] = {}
        _collect(result.outputs, self.task.structure, arrays)
        batched = {output.name for output in outputs if output.batched}
        return {name: array[np.newaxis] if name in batched else array for name, array in arrays.items()}


@dataclass(frozen=True, kw_only=True)
class RawPostprocessing(Postprocessing):
    """The network's own outputs, in the structure that its forward returned."""

    task: Raw
    interpreter = RawReference
    whole = True

    @classmethod
    def infer(cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str) -> "RawPostprocessing":
        """Return the outputs of the first value."""
        del options, labels_file
        structure, tensors = take_apart(values[0])
        if not tensors:
            raise ConversionError(f"'{name}': returns no tensor: expected at least one. Return tensors.")
        outputs = tuple(
            Output(name=output, dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(tensor.shape))
            for output, tensor in tensors.items()
        )
        return cls(task=Raw(structure=structure), activation="none", outputs=outputs)

    @classmethod
    def options_of(cls, task: Raw, value: Any) -> TaskOptions:
        """Return the task."""
        del task, value
        return TaskOptions(task="raw")

    @property
    def finding(self) -> str:
        """What was added, in words: nothing."""
        return "outputs as they are"

    @property
    def inner_names(self) -> tuple[str, ...]:
        """The names of the network's outputs inside the graph."""
        return tuple(f"{LOGITS}/{output.name}" for output in self.outputs)

    def expect(self, value: Any, dtype: torch.dtype = torch.float32) -> Named:
        """Return all tensors that the eager network returned, in their own types."""
        del dtype
        return {name: tensor.numpy() for name, tensor in self._tensors(value).items()}

    def expect_rows(self, value: Any, count: int) -> tuple[list[Named], list[Named]]:
        """Return the rows of those tensors that have one for each of ``count`` inputs."""
        tensors = self._tensors(value)
        batched = {name: tensor for name, tensor in tensors.items() if tensor.shape[:1] == (count,)}
        if not batched:
            shapes = ", ".join(f"'{name}' {list(tensor.shape)}" for name, tensor in tensors.items())
            raise ConversionError(f"its outputs are {shapes} for {count} inputs")
        rows = [{name: tensor[row : row + 1].numpy() for name, tensor in batched.items()} for row in range(count)]
        return rows, rows

    def _tensors(self, value: Any) -> dict[str, torch.Tensor]:
        """Return the tensors that the eager network returned, the batch first."""
        return batch_first(take_apart(value)[1], self.batch_axes)

    def module(self) -> nn.Module:
        """Return a module that changes nothing."""
        return nn.Identity()

    def add_nodes(self, nodes: NodeBuilder) -> None:
        """Append what gives the outputs their names."""
        for inner, output in zip(self.inner_names, self.outputs, strict=True):
            nodes.add("Identity", inner, output=output.name)

    def with_shapes(self, shapes: Mapping[str, Sequence[int | str]]) -> tuple[Output, ...]:
        """Return the outputs with the dimensions that the converted network gives, by inner name.

        Where no output has a batch dimension, the network takes one input at a time: a first length of 1 is that input.
        """
        given = [tuple(shapes[inner]) for inner in self.inner_names]
        if not any(shape[:1] == (BATCH,) for shape in given):
            given = [(BATCH, *shape[1:]) if shape[:1] == (1,) else shape for shape in given]
        return tuple(
            Output(name=output.name, dtype=output.dtype, shape=shape)
            for shape, output in zip(given, self.outputs, strict=True)
        )


def _collect(value: Any, structure: Structure, arrays: dict[str, NDArray[Any]]) -> None:
    """Put the arrays of a raw result under the names of their outputs, which the leaves of its structure have."""
    match structure:
        case TensorLeaf():
            arrays[structure.output] = value
        case Items():
            for entry, part in zip(value, structure.items, strict=True):
                _collect(entry, part, arrays)
        case Entries():
            for key, part in structure.entries.items():
                _collect(value[key], part, arrays)
