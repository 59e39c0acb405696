"""Search for the first node of a graph whose output is wrong for the reference's inputs.

The reference is the eager network as a program of torch operators, each of which is run: its nodes have the names of
the graph's values. Parts of the graph are given the program's own values, so that errors do not add up; the part at
fault is halved until one value is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from exporter.conversion.network_io import Arrays
from exporter.conversion.node_builder import outer_names
from exporter.conversion.to_onnx import NETWORK_PREFIX, TracedProgram
from exporter.errors import ConversionError
from exporter.localize.location import FaultLocation
from exporter.localize.program import ProgramValues, run_program, source_location_of
from exporter.localize.repro import describe_change, write_case
from exporter.parity.array_diff import size_of
from runtime.artifact.difference import largest_difference
from runtime.engine.session import open_session
from runtime.errors import ModelError

# A few roundings of float32, relative to a value's size: what is left where float64 shows no difference.
_ROUNDINGS = 8 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, kw_only=True)
class ProbeInputs:
    """Inputs of the network, by name: one case, or a batch of them, with a name for the report."""

    name: str
    tensors: Mapping[str, torch.Tensor]


def locate(
    graph: Path,
    traced: TracedProgram,
    inputs: Sequence[ProbeInputs],
    *,
    outputs: Sequence[str],
    max_ratio: float,
    folder: Path,
) -> FaultLocation | None:
    """Return the first node of ``graph`` whose value is beyond the noise; None where each is right for eager's inputs.

    ``traced`` is the untouched network, as the graph was converted; ``outputs`` are the names of its outputs in the
    graph. A value may differ by ``max_ratio`` times its noise: the difference of float32 and float64, or a few
    roundings. The node alone, the inputs and outputs that it should have, and a script that runs it are written to
    ``folder``. Raises ConversionError where the graph is not dynamo's, so that its values have other names.
    """
    search = _Search(graph, traced, inputs, outputs, max_ratio)
    location = search.bisect()
    if location is None:
        return None
    node_alone = search.part([location.output], search.before(location.output))
    write_case(folder, location, node_alone, *search.values(location))
    return replace(location, folder=folder)


class _Search:
    """The graph's part between the network's inputs and outputs, and eager's values for it."""

    def __init__(
        self,
        graph: Path,
        traced: TracedProgram,
        probes: Sequence[ProbeInputs],
        outputs: Sequence[str],
        max_ratio: float,
    ) -> None:
        self._model = onnx.load(graph)
        self._traced = traced
        self._probes = probes
        self._inputs = list(probes[0].tensors)
        self._outputs = list(outputs)
        self._max_ratio = max_ratio
        self._runs = 0
        self._producers = {name: node for node in self._model.graph.node for name in node.output if name}
        self._nodes = self._reachable(self._outputs, set(self._inputs))
        self._order = {name: index for index, node in enumerate(self._nodes) for name in node.output}
        self._expected = [self._named(run_program(traced.program, probe.tensors)) for probe in probes]
        self._exact = [self._in_float64(probe) for probe in probes]
        known = set.intersection(*(set(values) for values in self._expected))
        self._known = sorted(
            (name for name in self._order if name in known and name not in self._inputs), key=self._order.__getitem__
        )
        missing = [name for name in self._outputs if name not in self._order or name not in known]
        if missing or len(self._known) < min(2, len(self._nodes)):
            raise ConversionError(
                f"'{graph}': its values have other names than torch.onnx gives them now: expected "
                f"'{(missing or self._outputs)[0]}' and the operators before it, got {len(self._known)} values of that "
                "name. Locate with the torch that it was exported with, or export it again."
            )

    def bisect(self) -> FaultLocation | None:
        """Halve the part that is wrong until one value is left; then look at that one alone."""
        low, high = 0, len(self._known)
        while high - low > 1:
            middle = (low + high) // 2
            if self._wrong(self._frontier(low, middle), self._known[:low]):
                high = middle
            else:
                low = middle
        first = self._wrong([self._known[low]], self._known[:low])
        if first is None:
            # What each of two halves adds can be within the noise, and a later part alone be wrong, or none.
            for index, name in enumerate(self._known):
                first = self._wrong([name], self._known[:index])
                if first is not None:
                    break
        return first

    def before(self, output: str) -> list[str]:
        """Return the values that are known where ``output`` is computed."""
        return self._known[: self._known.index(output)]

    def values(self, location: FaultLocation) -> tuple[Arrays, Arrays]:
        """Return eager's values of the node's inputs and output, for the input that showed the fault."""
        row = next(index for index, probe in enumerate(self._probes) if probe.name == location.input)
        model = self.part([location.output], self.before(location.output))
        taken = {value.name: self._expected[row][value.name] for value in model.graph.input}
        return taken, {location.output: self._expected[row][location.output]}

    def part(self, targets: Sequence[str], known: Sequence[str]) -> onnx.ModelProto:
        """Return the nodes from known values, and the network's inputs, to ``targets``."""
        sources = (set(known) | set(self._inputs)) - set(targets)
        nodes = self._reachable(targets, sources)
        needed = {name for node in nodes for name in (*node.input, *outer_names(node))}
        part = onnx.ModelProto()
        part.ir_version = self._model.ir_version
        part.opset_import.extend(self._model.opset_import)
        part.functions.extend(self._model.functions)
        part.graph.name = "part"
        part.graph.node.extend(nodes)
        part.graph.initializer.extend(value for value in self._model.graph.initializer if value.name in needed)
        for name in sorted(needed & sources):
            array = self._expected[0][name]
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            part.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * array.ndim))
        part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in targets)
        return part

    def _in_float64(self, probe: ProbeInputs) -> dict[str, NDArray[Any]]:
        """Return the program's values in float64; none where it has steps that are float32 by name."""
        try:
            return self._named(run_program(self._traced.program, probe.tensors, exact=True))
        except RuntimeError:
            return {}

    def _named(self, values: ProgramValues) -> dict[str, NDArray[Any]]:
        """Return a program's values by their names in the graph."""
        named = {name: array for name, array in values.by_node.items() if name in self._producers}
        prefixed = {f"{NETWORK_PREFIX}{name}": array for name, array in values.by_node.items()}
        named |= {name: array for name, array in prefixed.items() if name in self._producers}
        return {
            **named,
            **dict(zip(self._inputs, values.inputs, strict=True)),
            **dict(zip(self._outputs, values.outputs, strict=True)),
        }

    def _frontier(self, low: int, high: int) -> list[str]:
        """Return the known values from ``low`` up to ``high`` that later nodes take."""
        chosen = self._known[low:high]
        last = self._order[chosen[-1]]
        later = {name for node in self._nodes[last + 1 :] for name in (*node.input, *outer_names(node))}
        later |= set(self._outputs)
        return [name for name in chosen if name in later] or chosen[-1:]

    def _wrong(self, targets: Sequence[str], known: Sequence[str]) -> FaultLocation | None:
        """Return the first of ``targets`` that is wrong where ``known`` values are eager's, or None."""
        self._runs += 1
        model = self.part(targets, known)
        try:
            session = open_session(model.SerializeToString(), device="cpu")
        except ModelError as error:
            return self._location(targets[0], self._probes[0].name, float("inf"), f"a node that does not load: {error}")
        for probe, expected in zip(self._probes, self._expected, strict=True):
            try:
                actual = session.run({value.name: expected[value.name] for value in model.graph.input})
            except ModelError as error:
                return self._location(targets[0], probe.name, float("inf"), f"none: {error}")
            for name in targets:
                difference, finding = _difference(actual[name], expected[name])
                if not difference <= self._limit(name):
                    return self._location(name, probe.name, difference, finding)
        return None

    def _floor(self, name: str) -> float:
        """Return how far a value's float32 is from its float64, or a few roundings of its size; zero for integers."""
        if not all(expected[name].dtype.kind == "f" for expected in self._expected):
            return 0.0
        size = size_of([expected[name] for expected in self._expected])
        noise = [
            _difference(expected[name].astype(np.float64), exact[name])[0]
            for expected, exact in zip(self._expected, self._exact, strict=True)
            if name in exact
        ]
        return max([_ROUNDINGS * size, *(difference for difference in noise if np.isfinite(difference))])

    def _limit(self, name: str) -> float:
        return self._max_ratio * self._floor(name)

    def _location(self, output: str, probe: str, difference: float, finding: str) -> FaultLocation:
        nodes = self._reachable([output], (set(self.before(output)) | set(self._inputs)) - {output})
        renamed = output.removeprefix(NETWORK_PREFIX)
        return FaultLocation(
            node=nodes[-1].name or output,
            output=output,
            operators=tuple(node.op_type for node in nodes),
            origin=source_location_of(self._traced.program, renamed, self._outputs),
            input=probe,
            difference=difference,
            floor=self._floor(output),
            limit=self._limit(output),
            finding=finding,
            changes=describe_change(self._model, self._traced.model, nodes),
            runs=self._runs,
            folder=None,
        )

    def _reachable(self, targets: Sequence[str], sources: set[str]) -> list[onnx.NodeProto]:
        """Return the nodes between, in the graph's order."""
        needed, kept = set(targets), []
        for node in reversed(self._model.graph.node):
            needed_outputs = needed & set(node.output)
            if needed_outputs and not needed_outputs <= sources:
                kept.append(node)
                needed |= {name for name in (*node.input, *outer_names(node)) if name not in sources}
        return kept[::-1]


def _difference(actual: NDArray[Any], expected: NDArray[Any]) -> tuple[float, str]:
    """Return the largest difference, infinite where the shapes differ, and the same in words."""
    if actual.shape != expected.shape:
        return float("inf"), f"shape {list(actual.shape)} for {list(expected.shape)}"
    largest = largest_difference(actual, expected)
    return largest, f"{largest:.1e}"
