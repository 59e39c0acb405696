"""Names of a part's tensors, files and dimensions beside those of other parts, in graphs and in the manifest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import onnx

from exporter.conversion.network_io import Dimensions
from exporter.conversion.node_builder import NodeBuilder
from exporter.inputs.adapter import GraphPart
from exporter.parity.cases import StageBorders
from runtime.artifact.open import Artifact
from runtime.inputs.composite.naming import dimension_name, tensor_name
from runtime.manifest import BATCH, Input

V = TypeVar("V")


class PartNames:
    """The names of one part: ``spec`` is its input under the name that its own adapter has for it.

    An array's own dimensions have the user's names, and are the same in all arrays.
    """

    def __init__(self, name: str, spec: Input) -> None:
        self.name = name
        # A row's name is none of its columns'.
        self._own = "" if spec.kind == "tabular" else spec.name
        self._shares_dimensions = spec.kind == "tensor"

    def tensor(self, tensor: str) -> str:
        """Return the name of a tensor that is an input of a graph, or of the network."""
        return self.name if tensor == self._own else tensor_name(self.name, tensor)

    def tensors(self, tensors: Mapping[str, V]) -> dict[str, V]:
        """Return tensors by name."""
        return {self.tensor(name): tensor for name, tensor in tensors.items()}

    def dimension(self, dimension: str) -> str:
        """Return the name of a dynamic dimension."""
        return dimension if dimension == BATCH or self._shares_dimensions else dimension_name(self.name, dimension)

    def dimensions(self, dimensions: Dimensions) -> dict[str, dict[int, str]]:
        """Return dynamic dimensions by tensor."""
        return {
            self.tensor(name): {axis: self.dimension(dimension) for axis, dimension in axes.items()}
            for name, axes in dimensions.items()
        }

    def file(self, file: str) -> str:
        """Return the name of a file of the artifact."""
        return f"{self.name}.{file}"

    def spec(self, spec: Input) -> Input:
        """Return the input in the manifest."""
        files = {
            field: self.file(value) for field in ("tokenizer", "vocabulary") if (value := getattr(spec, field, ""))
        }
        return msgspec.structs.replace(spec, name=self.name, **files)

    def borders(self, borders: StageBorders) -> StageBorders:
        """Return the tensors between stages."""
        return StageBorders(
            decoded=tuple(map(self.tensor, borders.decoded)),
            prepared=tuple(map(self.tensor, borders.prepared)),
            network={
                self.tensor(name): [self.dimension(size) if isinstance(size, str) else size for size in shape]
                for name, shape in borders.network.items()
            },
        )

    def graph_part(self, part: GraphPart, between: Sequence[str]) -> GraphPart:
        """Return the nodes before the network; ``between`` are the tensors that stages end with."""
        borders = {name: self.tensor(name) for name in (*(value.name for value in part.inputs), *between)}

        def rename(name: str) -> str:
            return borders.get(name) or (f"{self.name}/{name}" if name else "")

        return GraphPart(
            inputs=[self._input(value) for value in part.inputs],
            nodes=[_rename_nodes(nodes, rename) for nodes in part.nodes],
            opsets=part.opsets,
        )

    def _input(self, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
        named = onnx.ValueInfoProto()
        named.CopyFrom(value)
        named.name = self.tensor(value.name)
        for dimension in named.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = self.dimension(dimension.dim_param)
        return named


@dataclass(frozen=True, kw_only=True)
class PartView(Artifact):
    """An artifact as the adapter of one part knows it: files and ``tensors`` of the part under the part's own names."""

    names: PartNames
    tensors: tuple[str, ...]

    def file(self, name: str) -> Path:
        """Return the path of a file, which the artifact has with the part's name."""
        own = self.names.file(name)
        return super().file(own if own in self.manifest.files else name)

    def read(self, name: str) -> bytes:
        """Return the content of a file; of a graph, one with the part's own names."""
        data = super().read(name)
        return (
            self._rename(data) if name in {self.manifest.variants[0].model, self.manifest.variants[0].network} else data
        )

    def _rename(self, data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        own = {self.names.tensor(name): name for name in self.tensors}

        def rename(name: str) -> str:
            return own.get(name) or (f"other/{name}" if name in self.tensors else name)

        for value in (*model.graph.input, *model.graph.output, *model.graph.initializer, *model.graph.value_info):
            value.name = rename(value.name)
        for node in model.graph.node:
            _rename_node(node, rename)
        return bytes(model.SerializeToString())


def _rename_nodes(nodes: NodeBuilder, rename: Callable[[str], str]) -> NodeBuilder:
    renamed = NodeBuilder(nodes.prefix)
    for node in nodes.nodes:
        own = onnx.NodeProto()
        own.CopyFrom(node)
        _rename_node(own, rename)
        renamed.nodes.append(own)
    for name, constant in nodes.constants.items():
        value = onnx.TensorProto()
        value.CopyFrom(constant)
        value.name = rename(name)
        renamed.constants[value.name] = value
    return renamed


def _rename_node(node: onnx.NodeProto, rename: Callable[[str], str]) -> None:
    node.name = rename(node.name)
    node.input[:] = map(rename, node.input)
    node.output[:] = map(rename, node.output)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
                value.name = rename(value.name)
            for inner in graph.node:
                _rename_node(inner, rename)
