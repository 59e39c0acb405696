"""Localization of a fault: from evidence against a network's graph to the first faulty node."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from exporter.conversion.network_io import flatten
from exporter.conversion.to_onnx import trace_program
from exporter.errors import ConversionError
from exporter.localize.bisect import ProbeInputs, locate
from exporter.localize.location import FaultLocation
from exporter.parity import RUNTIME, EagerModel
from runtime.artifact.open import Artifact
from runtime.evidence import STAGES, Evidence, Row

# Stages whose faults lie in the network's graph, or may.
_OF_NETWORK = ("network", "end to end")


@dataclass(frozen=True, kw_only=True)
class FaultReport:
    """A sentence for people, and the node, where one was found."""

    sentence: str
    location: FaultLocation | None = None


def locate_fault(
    eager: EagerModel, evidence: Evidence, artifact: Artifact, *, max_ratio: float, folder: Path
) -> FaultReport:
    """Return the first node at fault in the artifact's graph, or in words why there is none.

    ``eager`` is the model as it was called for ``evidence``; ``folder`` gets the node alone, as a script that runs.
    """
    if evidence.passed:
        return FaultReport(sentence="nothing to locate: parity passed")
    variant = artifact.manifest.variants[0]
    row = _row_of_network(evidence, variant.model)
    if row is None:
        first = None if evidence.first_fault is None else evidence.rows[evidence.first_fault]
        fault = f"stage '{first.stage}' of {first.path} is" if first else "nothing was compared"
        return FaultReport(sentence=f"no node to locate: the network's graph is not at fault, {fault}")
    if eager.postprocessing.stepwise:
        return FaultReport(sentence="no node to locate: its loop of decoding steps is not taken apart")
    run, postprocessing, example = eager.run, eager.postprocessing, eager.example()
    flat = flatten(
        eager.reference.network,
        tuple(example),
        run.values[0],
        whole=postprocessing.whole,
        batch_axes=postprocessing.batch_axes,
    )
    outputs = postprocessing.inner_names
    try:
        versions = artifact.manifest.onnx
        traced = trace_program(
            flat,
            example,
            outputs=outputs,
            dimensions=eager.dimensions,
            opset=versions.opset if versions is not None else None,
        )
        location = locate(
            artifact.path / variant.network,
            traced,
            _probes(eager, row, example),
            outputs=outputs,
            max_ratio=max_ratio,
            folder=folder,
        )
    except ConversionError as error:
        return FaultReport(sentence=f"no node could be located: {error}")
    if location is None:
        return FaultReport(
            sentence="no node to locate: each is within the noise, given eager's own inputs; the differences add up"
        )
    sentence = f"{location.describe()}. Alone, it is in '{location.folder}': run {location.folder}/run.py"
    return FaultReport(sentence=sentence, location=location)


def _probes(eager: EagerModel, row: Row, example: Mapping[str, torch.Tensor]) -> list[ProbeInputs]:
    """Return the input that differed most, and a batch: what depends on its neighbors shows on a batch alone."""
    names = [case.name for case in eager.run.cases]
    worst = names.index(row.worst_input) if row.worst_input in names else 0
    single = ProbeInputs(name=names[worst], tensors=eager.run.prepared[worst].tensors)
    return [single, ProbeInputs(name="a batch of two", tensors=example)]


def _row_of_network(evidence: Evidence, graph: str) -> Row | None:
    """Return the first row at fault where that is the network's graph; None where an earlier stage is at fault."""
    faults = [row for row in evidence.rows if not row.passed and row.path in (graph, RUNTIME)]
    first = min(faults, key=lambda row: STAGES.index(row.stage), default=None)
    return first if first is not None and first.stage in _OF_NETWORK else None
