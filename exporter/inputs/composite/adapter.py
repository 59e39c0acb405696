"""Adapter of inputs of several parts: each part's own preprocessing, in one graph."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import msgspec
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.conversion.network_io import Arrays
from exporter.inputs.adapter import (
    AdapterDefaults,
    GraphPart,
    InputPipeline,
    TorchScriptPart,
    example_of,
    module_before,
    one_of_each_shape,
)
from exporter.inputs.composite.arguments import ByParts, by_parts
from exporter.inputs.composite.renaming import PartNames, PartView
from exporter.inputs.composite.to_torchscript import PreparedParts
from exporter.options.task import TaskOptions
from exporter.parity.cases import (
    BATCH_SIZES,
    GENERATED,
    Case,
    PreparedInput,
    ReferenceOutput,
    ServedStage,
    StageBorders,
)
from exporter.parity.paths import decode_stage, host_stage
from runtime.artifact.open import Artifact
from runtime.evidence import Stage, WholeCheck
from runtime.inputs.registry import open_payload
from runtime.manifest import Input
from runtime.model import Model

# A network is tried with one input of each shape, up to so many.
_MOST_SHAPES = 8


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part: its name, and the adapter of its kind; ``to_bytes`` gives a case's data for what JSON has of one."""

    name: str
    adapter: InputPipeline
    to_bytes: Callable[[Any, str], bytes]

    @cached_property
    def names(self) -> PartNames:
        """The names of its tensors beside those of the others."""
        return PartNames(self.name, self.adapter.inputs[0])

    @property
    def spec(self) -> Input:
        """The part in the manifest."""
        return self.names.spec(self.adapter.inputs[0])

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the network's inputs, as its own adapter has them."""
        return tuple(self.adapter.borders.network)

    def view(self, artifact: Artifact) -> Artifact:
        """Return an artifact as the part's own adapter knows it."""
        graph, borders = self.adapter.raw_graph_part(), self.adapter.borders
        tensors = [*(value.name for value in graph.inputs), *borders.prepared, *borders.network]
        return PartView(path=artifact.path, manifest=artifact.manifest, names=self.names, tensors=tuple(tensors))

    def to_json(self, data: bytes) -> Any:
        """Return a case of the part as requests have it."""
        return open_payload(self.adapter.inputs).to_json(data)

    def of_all(self, sentences: Sequence[str]) -> tuple[str, ...]:
        """Return sentences about the part as some about the whole input."""
        return tuple(f"part '{self.name}': {sentence}" for sentence in sentences)


class CompositeAdapter(AdapterDefaults):
    """Several parts, each read, prepared and described by the adapter of its own kind.

    Cases combine those of the parts: each case of the part that has the most, beside others of the rest in turn.
    """

    noun = "inputs"

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self._of_parts: dict[bytes, tuple[Case, ...]] = {}
        adapters = [part.adapter for part in parts]
        self.prepared_limit = max(adapter.prepared_limit for adapter in adapters)
        self.decoder_tolerance = max(adapter.decoder_tolerance for adapter in adapters)
        self.labels = next((adapter.labels for adapter in adapters if adapter.labels), ())
        self.libraries = tuple(dict.fromkeys(name for adapter in adapters for name in adapter.libraries))
        self.decoded_dimensions = self._joined(
            [part.names.dimensions(part.adapter.decoded_dimensions) for part in parts]
        )
        self.assumptions = tuple(
            text for part in parts for text in part.of_all((*part.adapter.assumptions, *_not_made(part)))
        )
        self.expected_warnings = tuple(pattern for adapter in adapters for pattern in adapter.expected_warnings)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The parts."""
        return tuple(part.spec for part in self._parts)

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files of all parts, each with its part's name."""
        return {part.names.file(name): data for part in self._parts for name, data in part.adapter.files.items()}

    @property
    def skipped_samples(self) -> tuple[str, ...]:
        """Those of all parts."""
        return tuple(text for part in self._parts for text in part.of_all(part.adapter.skipped_samples))

    @property
    def dimensions(self) -> Mapping[str, Mapping[int, str]]:
        """The dynamic dimensions of all parts."""
        return self._joined([part.names.dimensions(part.adapter.dimensions) for part in self._parts])

    @property
    def borders(self) -> StageBorders:
        """The tensors between stages; one that a stage leaves as it is is among those before and after it."""
        own = [part.names.borders(part.adapter.borders) for part in self._parts]
        raw, prepared = (tuple(value.name for value in graph.inputs) for graph in (self._raw, self._prepared))
        return StageBorders(
            decoded=raw if any(borders.decoded for borders in own) else (),
            prepared=prepared if any(borders.prepared for borders in own) else (),
            network=self._joined([borders.network for borders in own]),
        )

    def arrange(self, network: nn.Module) -> ByParts:
        """Return the network with the tensors of all parts in by position."""
        return by_parts(network, {part.name: part.tensors for part in self._parts})

    def describe(self) -> str:
        """Return each part by its name."""
        return "; ".join(f"{part.name}: {part.adapter.describe()}" for part in self._parts)

    def assume_task(self, options: TaskOptions, network: nn.Module, value: Any) -> TaskOptions:
        """Return the options with what the parts tell of the task."""
        for part in self._parts:
            options = part.adapter.assume_task(options, network, value)
        return options

    def cases(self) -> tuple[Case, ...]:
        """Return combinations of the parts' cases."""
        of_parts = [part.adapter.cases() for part in self._parts]
        count = max(map(len, of_parts))
        # The second part begins with its second case, and so on: parts with as many cases are combined anew.
        return tuple(
            self._case(row, [cases[(row + index) % len(cases)] for index, cases in enumerate(of_parts)])
            for row in range(count)
        )

    def decoded_batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return combinations of what each part has for a batch, in one shape."""
        batches = [
            _of_one_shape(part, part.adapter.decoded_batch([self._split(case)[index] for case in cases]))
            for index, part in enumerate(self._parts)
        ]
        return tuple(self._case(row, own) for row, own in enumerate(zip(*batches, strict=True)))

    def decode(self, case: Case) -> Arrays:
        """Return the inputs of the ``model`` graph: of a part without geometry, what its own preprocessing gives."""
        return self._joined(
            [part.names.tensors(_decoded(part, own)) for part, own in zip(self._parts, self._split(case), strict=True)]
        )

    def prepare(self, case: Case) -> PreparedInput:
        """Return each part after the user's own preprocessing."""
        of_parts = [part.adapter.prepare(own) for part, own in zip(self._parts, self._split(case), strict=True)]
        pairs = list(zip(self._parts, of_parts, strict=True))
        return PreparedInput(
            decoded=self._joined([part.names.tensors(own.decoded or own.arrays) for part, own in pairs]),
            arrays=self._joined([part.names.tensors(own.arrays) for part, own in pairs]),
            tensors=self._joined([part.names.tensors(own.tensors) for part, own in pairs]),
        )

    def example(self, prepared: Sequence[PreparedInput]) -> Mapping[str, torch.Tensor]:
        """Return two cases of one shape."""
        return example_of(prepared)

    def validation_inputs(self, prepared: Sequence[PreparedInput]) -> Sequence[Mapping[str, torch.Tensor]]:
        """Return inputs of different shapes, where more than the batch is dynamic."""
        return one_of_each_shape(prepared, self.dimensions)[:_MOST_SHAPES]

    def host_stages(self, model: Model) -> Mapping[Stage, ServedStage]:
        """Return the runtime's decoders, and all that it prepares of an input."""

        def prepare(reference: ReferenceOutput) -> Arrays:
            return model.stack([model.prepare(reference.case.data, subject=f"'{reference.case.name}'")])

        stages: dict[Stage, ServedStage] = {"decode": decode_stage(model)}
        if self.borders.decoded:
            stages["geometry"] = host_stage("geometry", prepare, takes="case")
        return stages

    def compare_whole(self, artifact: Artifact) -> Sequence[WholeCheck]:
        """Return the checks of all parts, each of which sees the artifact as one of its own."""
        return [
            msgspec.structs.replace(check, subject=f"{check.subject} of part '{part.name}'")
            for part in self._parts
            for check in part.adapter.compare_whole(part.view(artifact))
        ]

    def raw_graph_part(self) -> GraphPart:
        """Return the parts' nodes from raw inputs on."""
        return self._raw

    def network_graph_part(self) -> GraphPart | None:
        """Return the parts' nodes from prepared inputs on; None where no part is prepared on the host."""
        return self._prepared if any(part.adapter.network_graph_part() for part in self._parts) else None

    def torchscript_part(self) -> TorchScriptPart:
        """Return what prepares all parts, or why one has no archive."""
        own = {part.name: part.adapter.torchscript_part() for part in self._parts}
        obstacles = [f"part '{name}': {part.obstacle}" for name, part in own.items() if part.obstacle]
        if obstacles:
            return TorchScriptPart(obstacle=obstacles[0])
        return TorchScriptPart(before=partial(self._before, own))

    def _before(self, own: Mapping[str, TorchScriptPart]) -> PreparedParts:
        raw = [value.name for value in self._raw.inputs]
        modules = {name: module for name, part in own.items() if (module := module_before(part)) is not None}
        names = {
            part.name: [value.name for value in part.adapter.raw_graph_part().inputs]
            if part.name in modules
            else part.tensors
            for part in self._parts
        }
        positions = {
            part.name: [raw.index(part.names.tensor(name)) for name in names[part.name]] for part in self._parts
        }
        return PreparedParts(modules, positions)

    @cached_property
    def _raw(self) -> GraphPart:
        return _join([self._graph_part(part, part.adapter.raw_graph_part()) for part in self._parts])

    @cached_property
    def _prepared(self) -> GraphPart:
        return _join(
            [
                self._graph_part(part, part.adapter.network_graph_part() or part.adapter.raw_graph_part())
                for part in self._parts
            ]
        )

    @staticmethod
    def _graph_part(part: Part, graph: GraphPart) -> GraphPart:
        borders = part.adapter.borders
        return part.names.graph_part(graph, (*borders.prepared, *borders.network))

    def _case(self, row: int, of_parts: Sequence[Case]) -> Case:
        values = {part.name: part.to_json(own.data) for part, own in zip(self._parts, of_parts, strict=True)}
        groups = {own.group for own in of_parts}
        case = Case(
            name=f"{row}: {' + '.join(own.name for own in of_parts)}",
            data=json.dumps(values).encode(),
            group=groups.pop() if len(groups) == 1 else GENERATED,
        )
        self._of_parts[case.data] = tuple(of_parts)
        return case

    def _split(self, case: Case) -> tuple[Case, ...]:
        """Return a case of each part."""
        if case.data not in self._of_parts:
            values = json.loads(case.data)
            self._of_parts[case.data] = tuple(
                replace(case, data=part.to_bytes(values[part.name], case.name)) for part in self._parts
            )
        return self._of_parts[case.data]

    @staticmethod
    def _joined(mappings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {name: value for mapping in mappings for name, value in mapping.items()}


def _decoded(part: Part, case: Case) -> Mapping[str, NDArray[Any]]:
    return part.adapter.decode(case) or part.adapter.prepare(case).arrays


def _not_made(part: Part) -> Sequence[str]:
    """Return a sentence on what the parity check of a photo alone has, and that of a part has not."""
    return ("pixels of made images beyond those of the inputs",) if part.adapter.borders.decoded else ()


def _of_one_shape(part: Part, cases: Sequence[Case]) -> list[Case]:
    """Return as many cases as the largest batch has, those of the shape that most have."""
    shapes = [tuple(tensor.shape for tensor in part.adapter.prepare(case).tensors.values()) for case in cases]
    common = max(shapes, key=shapes.count)
    chosen = [case for case, shape in zip(cases, shapes, strict=True) if shape == common]
    return [chosen[row % len(chosen)] for row in range(max(BATCH_SIZES))]


def _join(parts: Sequence[GraphPart]) -> GraphPart:
    opsets: dict[str, int] = {}
    for part in parts:
        opsets |= part.opsets
    return GraphPart(
        inputs=[value for part in parts for value in part.inputs],
        nodes=[nodes for part in parts for nodes in part.nodes],
        opsets=opsets,
    )
