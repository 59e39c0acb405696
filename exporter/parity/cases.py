"""Types of a parity check: cases, reference outputs, stages and served paths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import torch
from numpy.typing import NDArray

from exporter.conversion.network_io import Arrays, Dimensions
from exporter.parity.proof_cache import ProofCache
from exporter.progress import Advance
from runtime.evidence import Row, Stage
from runtime.model import Model

# Batches of these sizes are compared by a thorough check; an adapter's own batch has as many cases as the largest.
BATCH_SIZES = (1, 2, 3, 7)

# The size of the batch that every form runs: neither the size that graphs are traced with, nor a multiple of it. Where
# the artifact is served from, the largest that the runtime makes runs as well. A graph without branches that has any
# other size in it is wrong for one of the two.
OTHER_BATCH = 3

# Where inputs are from, as the report groups them.
# The user's own function makes the tokens of texts.
SAMPLES, PHOTOS, GENERATED, TEXTS = "samples", "photos", "generated", "texts"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input that both sides see, in the encoded form that the runtime decodes.

    ``name`` is what the report calls it, ``group`` says where it is from.
    """

    name: str
    data: bytes
    group: str = GENERATED


@dataclass(frozen=True, kw_only=True)
class PreparedInput:
    """One case after the user's own preprocessing, as a batch of one.

    ``decoded`` are the inputs of the ``model`` graph, none where that graph takes prepared inputs; ``arrays`` are the
    inputs of the ``network`` graph, ``tensors`` those of the network itself, by name. ``parts`` are those of the input
    that rows of its scores belong to, as ``runtime/outputs/parts.py`` has them; none where it has none.
    """

    decoded: Arrays = field(default_factory=dict)
    arrays: Arrays
    tensors: Mapping[str, torch.Tensor]
    parts: Arrays = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReferenceOutput:
    """The reference for one case, as a batch of one.

    ``inner`` are the network's own outputs by their names in the graph, ``outputs`` the artifact's, after the
    postprocessing.
    """

    case: Case
    prepared: PreparedInput
    inner: Arrays
    outputs: Arrays


StageFunction: TypeAlias = Callable[[ReferenceOutput], Arrays]

# Which of the reference's values a stage takes; the keys of ``REFERENCE_VALUES``.
ReferenceValue: TypeAlias = Literal["case", "decoded", "prepared", "network inputs", "network outputs", "outputs"]


@dataclass(frozen=True, kw_only=True)
class StageId:
    """Identity of a stage: where two paths have stages of equal ids, one comparison counts for both.

    ``computation`` is the digest of a part of a graph, or the name of the path that computes the stage in its own way;
    ``takes`` says which of the reference's values the stage takes, ``sources`` the tensors that its part of a graph
    begins with, by name and declared dimensions.
    """

    stage: Stage
    computation: str
    takes: ReferenceValue
    sources: tuple[tuple[str, tuple[int | str, ...]], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServedStage:
    """One stage of a path: from the reference's values to arrays with a batch dimension of one."""

    id: StageId
    run: StageFunction


@dataclass(frozen=True, kw_only=True)
class ServedPath:
    """One way to run the artifact on one device.

    ``run`` takes raw inputs, for cases that may share a batch, and gives the artifact's outputs for each, with a batch
    dimension of one. ``release`` frees the path's memory until it is run again. ``branches`` says that the network
    chooses by values what it computes, so that a few inputs may not run all of it.
    """

    name: str
    device: str = "cpu"
    stages: Mapping[Stage, ServedStage]
    run: Callable[[Sequence[Case]], Sequence[Arrays]]
    release: Callable[[], None] = lambda: None
    branches: bool = False


@dataclass(frozen=True, kw_only=True)
class StageBorders:
    """Names of the tensors between the stages of a graph.

    ``decoded`` are the inputs that geometry begins with, none where the graph has no geometry; ``prepared`` those that
    arithmetic begins with, none where there is no arithmetic; ``network`` the network's inputs with their dimensions,
    or () where the graph or the first call knows them.
    """

    decoded: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()
    network: Mapping[str, Sequence[int | str]]


# One form's execution of preprocessing steps: from what the kind's steps are made of to a function of a decoded input.
StepExecution: TypeAlias = Callable[..., Callable[[Any], NDArray[Any]]]


class CaseSource(Protocol):
    """Cases of one input kind: in encoded form, and as the user's own preprocessing makes them.

    ``noun`` is what the report calls the inputs; ``expected_warnings`` are patterns of warnings that some cases cause
    on purpose.
    """

    noun: str

    @property
    def expected_warnings(self) -> tuple[str, ...]:
        """Patterns of the runtime's warnings about cases that are odd on purpose."""

    @property
    def skipped_samples(self) -> tuple[str, ...]:
        """Sentences that say which of the user's samples are not among the cases."""

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Sentences on which parts of the reference are not the user's own code, but assumed, restated or left out."""

    @property
    def dimensions(self) -> Dimensions:
        """The names of the network's dynamic dimensions, by its inputs and their axes."""

    @property
    def decoded_dimensions(self) -> Dimensions:
        """The names of the dynamic dimensions of decoded inputs, where they are not the network's."""

    def cases(self) -> tuple[Case, ...]:
        """Return the inputs to compare, of every size and form that the artifact promises."""

    def batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return cases that may share a batch once they are prepared, as many as the largest of BATCH_SIZES or all."""

    def decoded_batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return cases that may share a batch before they are prepared, OTHER_BATCH or more."""

    def decode(self, case: Case) -> Arrays:
        """Return the inputs of the ``model`` graph, decoded without the runtime; none where it takes prepared ones."""

    def prepare(self, case: Case) -> PreparedInput:
        """Return a case after the user's own, untouched preprocessing."""

    def example(self, prepared: Sequence[PreparedInput]) -> Mapping[str, torch.Tensor]:
        """Return the network's inputs for tracing: a batch of two."""

    def validation_inputs(self, prepared: Sequence[PreparedInput]) -> Sequence[Mapping[str, torch.Tensor]]:
        """Return inputs of the shapes that a converted network has to take, or another exporter is tried."""

    def host_stages(self, model: Model) -> Mapping[Stage, ServedStage]:
        """Return the stages that the runtime's host computes before the graph."""

    def check_steps(
        self,
        paths: Sequence[ServedPath],
        executions: Mapping[str, StepExecution],
        *,
        thorough: bool = False,
        advance: Advance | None = None,
        cache: ProofCache | None = None,
    ) -> Sequence[Row]:
        """Return the evidence on the preprocessing of the artifact's files alone, on many more inputs than the cases.

        ``paths`` are those through the artifact; ``executions`` are this exporter's own of the same steps, by the names
        of the paths, which a difference is traced to a step with. ``thorough`` takes minutes; what ``cache`` has a
        proof of is not run again.
        """


def lengths_of(source: CaseSource, prepared: Sequence[PreparedInput]) -> dict[str, tuple[int, ...]]:
    """Return the lengths that the cases have, by the names of the dynamic dimensions except the batch."""
    lengths: dict[str, set[int]] = {}
    for case in prepared:
        for dimensions, arrays in ((source.dimensions, case.tensors), (source.decoded_dimensions, case.decoded)):
            for name, axes in dimensions.items():
                for axis, dimension in axes.items():
                    if axis:
                        lengths.setdefault(dimension, set()).add(int(arrays[name].shape[axis]))
    return {dimension: tuple(sorted(values)) for dimension, values in lengths.items()}
