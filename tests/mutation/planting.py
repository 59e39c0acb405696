"""Where faults can be planted: in what is exported, never in the eager model that it is compared with."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from exporter import bundle, workflow
from exporter.backends import onnx_graph, registry, torchscript
from exporter.backends.backend import NetworkSource, WrittenForm
from exporter.conversion.to_onnx import ConvertedNetwork
from exporter.inputs.image import adapter as images
from exporter.outputs.postprocessing import Postprocessing
from runtime.geometry import native
from runtime.manifest import LAYOUT, Manifest, Preprocessing


class Planting:
    """The hooks of one fault; they hold inside ``in_force``.

    ``on_host`` says that the runtime itself is at fault, and so is wherever the mutant runs; ``fresh`` that the network
    has to be converted anew; ``finished`` are changes of an artifact that passed; ``stated`` are options that the user
    gives 'truecopy parity', and did not give the export.
    """

    def __init__(self) -> None:
        self.on_host = False
        self.fresh = False
        self.finished: list[Callable[[Path], None]] = []
        self.stated: dict[str, Any] = {}
        self._replaced: list[tuple[Any, str, Any]] = []

    def host(self, owner: Any, name: str, value: Any) -> None:
        """Replace a function of the runtime, as another version or a hand-written loop would."""
        self.on_host = True
        self._replaced.append((owner, name, value))
        # Faults of decoding and geometry are planted in the Pillow path, around which the kernel would lead.
        self._replaced.append((native, "find_kernel", native.Kernel))

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Replace a function of the exporter."""
        self._replaced.append((owner, name, value))

    def steps(self, change: Callable[[Preprocessing], Preprocessing]) -> None:
        """Fold other steps in than the transform's: in the manifest, both graphs and TorchScript."""
        build = images.ImageAdapter.__init__

        def start(adapter: Any, reading: Any, *given: Any, **options: Any) -> None:
            build(adapter, _replace(reading, steps=change(reading.steps)), *given, **options)

        self.replace(images.ImageAdapter, "__init__", start)

    def network(self, change: Callable[[nn.Module], None]) -> None:
        """Change the network that is exported; the reference is built apart from it."""
        self.fresh = True
        original = registry.flatten

        def flatten(network: nn.Module, *given: Any, **options: Any) -> nn.Module:
            change(network)
            flat: nn.Module = original(network, *given, **options)
            return flat

        self.replace(registry, "flatten", flatten)

    def converted(self, change: Callable[[onnx.ModelProto], None]) -> None:
        """Change the network's graph, as a converter or an optimizer would."""
        convert = onnx_graph.convert_network

        def changed(*given: Any, **options: Any) -> ConvertedNetwork:
            converted = convert(*given, **options)
            model = converted.model
            change(model)
            return ConvertedNetwork(skeleton=model, fallback=converted.fallback)

        self.replace(onnx_graph, "convert_network", changed)

    def assembled(self, change: Callable[[onnx.ModelProto], None]) -> None:
        """Change both graphs of the artifact, preprocessing and ending included."""
        assemble = onnx_graph.assemble

        def changed(*given: Any, **options: Any) -> Any:
            graphs = assemble(*given, **options)
            for graph in (graphs.model, graphs.network):
                if graph is not None:
                    change(graph)
            return graphs

        self.replace(onnx_graph, "assemble", changed)

    def postprocessing(self, change: Callable[[Postprocessing], Postprocessing]) -> None:
        """Write another ending, in the graphs and in TorchScript."""
        assemble, write = onnx_graph.assemble, torchscript.write

        def assembled(
            converted: Any, whole: Any, prepared: Any, postprocessing: Postprocessing, *given: Any, **options: Any
        ) -> Any:
            return assemble(converted, whole, prepared, change(postprocessing), *given, **options)

        def written(stage: Any, source: NetworkSource) -> WrittenForm:
            return write(stage, _replace(source, postprocessing=change(source.postprocessing)))

        self.replace(onnx_graph, "assemble", assembled)
        self.replace(torchscript, "write", written)

    def written(self, file: str, change: Callable[[bytes], bytes]) -> None:
        """Write a file of the artifact otherwise, before it is compared; its hash fits."""
        write = bundle.Staging.write

        def changed(stage: Any, name: str, data: bytes) -> None:
            write(stage, name, change(data) if name == file else data)

        self.replace(bundle.Staging, "write", changed)

    def manifest(self, change: Callable[[Manifest], Manifest]) -> None:
        """Write another manifest."""
        self.replace(workflow, "Manifest", lambda **fields: change(Manifest(**fields)))

    def artifact(self, change: Callable[[Path], None]) -> None:
        """Change an artifact that passed, in its folder; hashes are made to fit."""
        self.finished.append(change)

    def state(self, **options: Any) -> None:
        """Check an artifact that passed with other options than it was exported with."""
        self.stated |= options
        self.finished.append(lambda _folder: None)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Hold all replacements for a while."""
        own = [(owner, name, getattr(owner, name)) for owner, name, _ in self._replaced]
        try:
            for owner, name, value in self._replaced:
                setattr(owner, name, value)
            yield
        finally:
            for owner, name, value in reversed(own):
                setattr(owner, name, value)


Plant = Callable[[Planting], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, the subject it is planted in, the stages any of which names it rightly, and who ships such.

    ``in_golden`` says that small inputs show it, as those of the export and of verify are; ``whole`` that it is in a
    thing that is compared whole, or in an option: the gate's inputs need not show it, and verify cannot.
    """

    name: str
    subject: str
    stages: tuple[str, ...]
    story: str
    plant: Plant
    in_golden: bool = True
    whole: bool = False


FAULTS: dict[str, Fault] = {}


def fault(*stages: str, subject: str, in_golden: bool = True, whole: bool = False) -> Callable[[Plant], Plant]:
    """Enter a function in the table: its docstring is the story."""

    def enter(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", " ")  # type: ignore[attr-defined]
        assert name not in FAULTS, name
        story = " ".join((plant.__doc__ or "").split())
        FAULTS[name] = Fault(
            name=name, subject=subject, stages=stages, story=story, plant=plant, in_golden=in_golden, whole=whole
        )
        return plant

    return enter


def _replace(value: Any, **changes: Any) -> Any:
    """Return a frozen dataclass or msgspec struct with other fields."""
    import copy

    return copy.replace(value, **changes) if hasattr(copy, "replace") else _replace_3_11(value, changes)


def _replace_3_11(value: Any, changes: dict[str, Any]) -> Any:
    import dataclasses

    import msgspec

    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **changes)  # type: ignore[type-var]
    return msgspec.structs.replace(value, **changes)


def nodes_of(model: onnx.ModelProto, *operators: str) -> list[onnx.NodeProto]:
    """Return the nodes of these operators, in the graph's order; there must be one."""
    found = [node for node in model.graph.node if node.op_type in operators]
    assert found, (operators, sorted({node.op_type for node in model.graph.node}))
    return found


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Give a node another value of an attribute, or one that it had not."""
    for attribute in list(node.attribute):
        if attribute.name == name:
            node.attribute.remove(attribute)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def change_constant(model: onnx.ModelProto, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Change a constant whose name is or ends with ``name``, and lies in the graph."""
    (tensor,) = [one for one in model.graph.initializer if one.name == name or one.name.endswith(name)]
    array = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def insert_after(model: onnx.ModelProto, tensor: str, build: Callable[[str, str], list[onnx.NodeProto]]) -> None:
    """Put nodes behind ``tensor``: ``build`` gets the names of their input and output, which takes its place."""
    graph = model.graph
    place, producer = next((place, node) for place, node in enumerate(graph.node) if tensor in node.output)
    inner = f"{tensor}/before"
    producer.output[list(producer.output).index(tensor)] = inner
    for offset, node in enumerate(build(inner, tensor)):
        graph.node.insert(place + 1 + offset, node)


def add_constants(model: onnx.ModelProto, **arrays: Any) -> None:
    """Add constants to a graph."""
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items())


def rehash(artifact: Path) -> None:
    """Make the manifest agree with the files as they are."""

    def change(manifest: dict[str, Any]) -> None:
        for name in manifest["files"]:
            data = (artifact / name).read_bytes()
            manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}

    edit_manifest(artifact, change)


def edit_manifest(artifact: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a finished artifact's manifest, as JSON."""
    path = artifact / LAYOUT.manifest
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
