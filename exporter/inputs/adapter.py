"""Interface of an input adapter."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import onnx
import torch
from torch import nn

from exporter.conversion.node_builder import NodeBuilder
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import Case, PreparedInput, ServedPath
from runtime.manifest import Input
from runtime.model import Model


@dataclass(frozen=True, kw_only=True)
class GraphPart:
    """The nodes of a graph before the network, and the graph's inputs; ``opsets`` are the versions of further domains.

    The last of the nodes give tensors with the names of the network's inputs.
    """

    inputs: Sequence[onnx.ValueInfoProto]
    nodes: Sequence[NodeBuilder]
    opsets: Mapping[str, int] = field(default_factory=dict)


class InputAdapter(Protocol):
    """What stands before a network: said in the manifest, proven by cases, and written before the graph.

    ``files`` are further files of the artifact. ``noun`` is what the report calls the inputs. ``prepared_limit`` is how
    far from the user's own what the host prepares may be on another machine, ``device_slack`` how much more scores may
    differ end to end for that reason. ``no_torchscript`` says why ``to_torchscript`` gives none where it does.
    """

    files: Mapping[str, bytes]
    prepared_limit: float
    decoder_tolerance: float
    noun: str
    no_torchscript: str

    @property
    def skipped_samples(self) -> tuple[str, ...]:
        """In sentences, what of the user's samples ``cases`` has not."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs, as the manifest says them."""

    @property
    def dimensions(self) -> Mapping[str, Mapping[int, str]]:
        """The names of the network's dynamic dimensions, by its inputs and their axes."""

    def describe(self) -> str:
        """Return what was found, for people."""

    def cases(self) -> tuple[Case, ...]:
        """Return the inputs to compare, of every size and form that the artifact promises."""

    def batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return cases that may share a batch, as many as the largest of BATCH_SIZES."""

    def prepare(self, case: Case) -> PreparedInput:
        """Return what the user's own, untouched preprocessing makes of a case."""

    def example(self, prepared: Sequence[PreparedInput]) -> Mapping[str, torch.Tensor]:
        """Return the network's inputs for tracing: a batch of two."""

    def validation_inputs(self, prepared: Sequence[PreparedInput]) -> Sequence[Mapping[str, torch.Tensor]]:
        """Return inputs of the shapes that a converted network has to take, or another exporter is tried."""

    def raw_graph_part(self) -> GraphPart:
        """Return the part of the ``model`` graph from the raw input to the network's."""

    def network_graph_part(self) -> GraphPart | None:
        """Return the part of the ``network`` graph, from prepared inputs; None where it is the same graph."""

    def to_torchscript(
        self, network: nn.Module, example: Mapping[str, torch.Tensor], postprocessing: Postprocessing
    ) -> bytes | None:
        """Return the whole path as a TorchScript archive, or None where there can be none."""

    def open_paths(
        self, model: Model, folder: Path, postprocessing: Postprocessing, *, torchscript: str | None
    ) -> AbstractContextManager[Sequence[ServedPath]]:
        """Give the ways through a staged artifact, each with its inner stages within reach."""


def example_of(prepared: Sequence[PreparedInput]) -> dict[str, torch.Tensor]:
    """Return the network's inputs for tracing: two cases of one shape as a batch, the largest there are.

    torch specialises dimensions of length 1, so cases without any are taken where there are such.
    """
    groups: dict[tuple[tuple[int, ...], ...], list[PreparedInput]] = {}
    for one in prepared:
        groups.setdefault(tuple(tuple(tensor.shape) for tensor in one.tensors.values()), []).append(one)
    best = max(groups, key=lambda shapes: (all(1 not in shape[1:] for shape in shapes), len(groups[shapes])))
    chosen = (groups[best] * 2)[:2]
    return {name: torch.cat([one.tensors[name] for one in chosen]) for name in chosen[0].tensors}


def lengths_of(adapter: InputAdapter, prepared: Sequence[PreparedInput]) -> dict[str, tuple[int, ...]]:
    """Return the lengths that prepared cases have, by the names of the dynamic dimensions but the batch."""
    found: dict[str, set[int]] = {}
    for name, axes in adapter.dimensions.items():
        for axis, dimension in axes.items():
            if axis:
                found.setdefault(dimension, set()).update(int(one.tensors[name].shape[axis]) for one in prepared)
    return {dimension: tuple(sorted(lengths)) for dimension, lengths in found.items()}
