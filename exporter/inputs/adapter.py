"""Interface of an input adapter."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import onnx
import torch
from torch import nn

from exporter.conversion.decoder_loop import SequenceProbe
from exporter.conversion.network_io import Dimensions
from exporter.conversion.node_builder import NodeBuilder
from exporter.conversion.to_torchscript import script
from exporter.options.task import TaskOptions
from exporter.parity.cases import Case, CaseSource, PreparedInput, ServedPath, StageBorders, StepExecution
from exporter.parity.proof_cache import ProofCache
from exporter.progress import Advance
from runtime.artifact.open import Artifact
from runtime.evidence import Row, Stage, WholeCheck
from runtime.manifest import Input


@dataclass(frozen=True, kw_only=True)
class GraphPart:
    """The nodes of a graph before the network, and the graph's inputs; ``opsets`` are the versions of further domains.

    The last of the nodes give tensors with the names of the network's inputs.
    """

    inputs: Sequence[onnx.ValueInfoProto]
    nodes: Sequence[NodeBuilder]
    opsets: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TorchScriptPart:
    """The modules of a TorchScript archive before the network, or the reason why there can be no archive.

    ``geometry`` goes from decoded to prepared inputs, ``arithmetic`` from there to the network's input. Inputs without
    these two stages have ``before``, which makes a module of both for a trace: from the inputs of the ``model`` graph,
    by position, to a tuple of the network's. Without any, an archive takes the network's own inputs by position.
    """

    geometry: nn.Module | None = None
    arithmetic: nn.Module | None = None
    before: Callable[[], nn.Module] | None = None
    obstacle: str = ""


class InputAdapter(Protocol):
    """One input kind in the manifest and in the forms of the artifact.

    ``files`` are further files of the artifact. ``prepared_limit`` is how far inputs that the host prepares on another
    machine may be from the user's own, ``decoder_tolerance`` how much more scores may differ end to end for that
    reason, relative to the largest. ``inputs_stage`` is the stage that follows what the manifest says of the inputs.
    """

    prepared_limit: float
    decoder_tolerance: float
    inputs_stage: Stage

    @property
    def files(self) -> Mapping[str, bytes]:
        """Further files of the artifact, by name."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs in the manifest."""

    @property
    def dimensions(self) -> Dimensions:
        """The names of the network's dynamic dimensions, by its inputs and their axes."""

    @property
    def borders(self) -> StageBorders:
        """The tensors between the stages of the graphs."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names that the network's own configuration has; none where it has none."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """Further packages whose versions decide the bytes of the artifact."""

    @property
    def network_probe(self) -> SequenceProbe | None:
        """A way to run the eager network on random token sequences; None for other inputs."""

    def arrange(self, network: nn.Module) -> nn.Module:
        """Return the network with the tensors of ``borders`` as its inputs: itself, where it takes them by name."""

    def describe(self) -> str:
        """Return in words how inputs are read and prepared."""

    def assume_task(self, options: TaskOptions, network: nn.Module, value: Any) -> TaskOptions:
        """Return ``options`` with what the user left open and the network itself tells.

        ``value`` is what the network's forward returned.
        """

    def raw_graph_part(self) -> GraphPart:
        """Return the part of the ``model`` graph from the raw input to the network's."""

    def network_graph_part(self) -> GraphPart | None:
        """Return the part of the ``network`` graph, from prepared inputs; None where it is the same graph."""

    def torchscript_part(self) -> TorchScriptPart:
        """Return the modules of a TorchScript archive before the network."""

    def compare_whole(self, artifact: Artifact) -> Sequence[WholeCheck]:
        """Return the checks of what an artifact has of the user's own preprocessing as a whole, such as a tokenizer."""


class InputPipeline(InputAdapter, CaseSource, Protocol):
    """Everything that one input kind has: its adapter and its cases."""


class AdapterDefaults:
    """Members of an adapter that few input kinds need, for the others."""

    inputs_stage: Stage = "decode"
    labels: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    network_probe: SequenceProbe | None = None
    expected_warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    decoded_dimensions: Dimensions = MappingProxyType({})

    def arrange(self, network: nn.Module) -> nn.Module:
        """Return the network as it is."""
        return network

    def assume_task(self, options: TaskOptions, _network: nn.Module, _value: Any) -> TaskOptions:
        """Return the options as they are."""
        return options

    @abstractmethod
    def decoded_batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return cases that may share a batch before they are prepared."""

    def batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return the same, which share a batch as well once they are prepared."""
        return self.decoded_batch(cases)

    def check_steps(
        self,
        _paths: Sequence[ServedPath],
        _executions: Mapping[str, StepExecution],
        *,
        thorough: bool = False,  # noqa: ARG002
        advance: Advance | None = None,  # noqa: ARG002
        cache: ProofCache | None = None,  # noqa: ARG002
    ) -> Sequence[Row]:
        """Return none: there is nothing to compare beyond the cases."""
        return ()

    def compare_whole(self, _artifact: Artifact) -> Sequence[WholeCheck]:
        """Return none: the manifest says all that there is."""
        return ()


def one_of_each_shape(
    prepared: Sequence[PreparedInput], dimensions: Mapping[str, Mapping[int, str]]
) -> tuple[Mapping[str, torch.Tensor], ...]:
    """Return one of the network's inputs of every shape, where more than the batch is dynamic; else none."""
    if all(set(axes) <= {0} for axes in dimensions.values()):
        return ()
    by_shape = {tuple(tuple(tensor.shape) for tensor in case.tensors.values()): case.tensors for case in prepared}
    return tuple(by_shape.values())


def example_of(prepared: Sequence[PreparedInput]) -> dict[str, torch.Tensor]:
    """Return the network's inputs for tracing: two cases of one shape as a batch, the largest there are.

    torch specializes dimensions of length 1, so cases without such a dimension are taken where there are some.
    """
    groups: dict[tuple[tuple[int, ...], ...], list[PreparedInput]] = {}
    for case in prepared:
        groups.setdefault(tuple(tuple(tensor.shape) for tensor in case.tensors.values()), []).append(case)
    best = max(groups, key=lambda shapes: (all(1 not in shape[1:] for shape in shapes), len(groups[shapes])))
    pair = (groups[best] * 2)[:2]
    return {name: torch.cat([case.tensors[name] for case in pair]) for name in pair[0].tensors}


class _FromPixels(nn.Module):
    """Geometry, compiled, and arithmetic: decoded images to a tuple of the network's input."""

    def __init__(self, geometry: nn.Module, arithmetic: nn.Module) -> None:
        super().__init__()
        self.geometry = geometry
        self.arithmetic = arithmetic

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        """Return the network's input."""
        return (self.arithmetic(self.geometry(image)),)


def module_before(part: TorchScriptPart) -> nn.Module | None:
    """Return what goes from the inputs of the ``model`` graph to a tuple of the network's; None where these are one.

    It is for a trace, which keeps the loops of a compiled geometry.
    """
    if part.before is not None:
        return part.before()
    if part.geometry is None or part.arithmetic is None:
        return None
    return _FromPixels(script(part.geometry), part.arithmetic)
