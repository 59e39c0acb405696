"""From evidence that a network's graph is wrong to the node that makes it so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exporter.conversion.network_io import flatten
from exporter.conversion.to_onnx import trace_program
from exporter.errors import ConversionError
from exporter.inputs.adapter import InputAdapter
from exporter.localize.bisect import ProbeInputs, locate
from exporter.localize.located import FaultLocation
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity import ReferenceOutput
from runtime.evidence import STAGES, Evidence, Row
from runtime.manifest import Manifest, Tokens

# Stages whose faults lie in the network's graph, or may.
_OF_NETWORK = ("network", "end to end")


@dataclass(frozen=True, kw_only=True)
class FaultReport:
    """A sentence for people, and the node, where one was found."""

    sentence: str
    located: FaultLocation | None = None


class FaultLocator:
    """Knows the untouched network as it was called, and finds where a graph leaves it.

    ``value`` is what the network's forward returned for the first of ``answers``.
    """

    def __init__(
        self,
        network: nn.Module,
        adapter: InputAdapter,
        postprocessing: Postprocessing,
        answers: Sequence[ReferenceOutput],
        value: Any,
        *,
        max_ratio: float,
        folder: Path,
    ) -> None:
        self._network = network
        self._adapter = adapter
        self._postprocessing = postprocessing
        self._answers = answers
        self._value = value
        self._max_ratio = max_ratio
        self._folder = folder

    def find(self, evidence: Evidence, manifest: Manifest, artifact: Path) -> FaultReport:
        """Return the first node at fault in the artifact's graph; or in words why there is none to be found."""
        if evidence.passed:
            return FaultReport(sentence="nothing to locate: parity passed")
        row = _row_of_network(evidence)
        if row is None:
            first = None if evidence.first_fault is None else evidence.rows[evidence.first_fault]
            what = f"stage '{first.stage}' of {first.path} is" if first else "nothing was compared"
            return FaultReport(sentence=f"no node to locate: the network's graph is not at fault, {what}")
        if isinstance(manifest.task, Tokens):
            return FaultReport(sentence="no node to locate: its loop of decoding steps is not taken apart")
        example = self._adapter.example([answer.prepared for answer in self._answers])
        flat = flatten(self._network, tuple(example), self._value, whole=self._postprocessing.whole)
        outputs = self._postprocessing.inner_names
        variant = manifest.variants[0]
        try:
            traced = trace_program(flat, example, outputs=outputs, dimensions=self._adapter.dimensions)
            found = locate(
                artifact / variant.network,
                traced,
                self._given(row, example),
                outputs=outputs,
                max_ratio=self._max_ratio,
                folder=self._folder,
            )
        except ConversionError as error:
            return FaultReport(sentence=f"no node could be located: {error}")
        if found is None:
            return FaultReport(
                sentence="no node to locate: each is within the noise, given eager's own inputs; the differences add up"
            )
        sentence = f"{found.describe()}. Alone, it is in '{found.folder}': run {found.folder}/run.py"
        return FaultReport(sentence=sentence, located=found)

    def _given(self, row: Row, example: Mapping[str, torch.Tensor]) -> list[ProbeInputs]:
        """Return the input that differed most, and a batch: what depends on its neighbours shows on that alone."""
        worst = next((one for one in self._answers if one.case.name == row.worst_input), self._answers[0])
        alone = ProbeInputs(name=worst.case.name, tensors=worst.prepared.tensors)
        return [alone, ProbeInputs(name="a batch of two", tensors=example)]


def _row_of_network(evidence: Evidence) -> Row | None:
    """Return the row that the network's graph is at fault for, unless an earlier stage is."""
    faults = [row for row in evidence.rows if not row.passed and row.path.endswith((".onnx", "runtime"))]
    first = min(faults, key=lambda row: STAGES.index(row.stage), default=None)
    return first if first is not None and first.stage in _OF_NETWORK else None
