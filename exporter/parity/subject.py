"""Subject of a parity check: the reference's side, built in one place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import nn

from exporter.conversion.network_io import Dimensions
from exporter.errors import ConversionError
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import BATCH_SIZES, OTHER_BATCH, CaseSource, ReferenceOutput, lengths_of
from exporter.parity.noise import NoiseMeasurement, describe_unstable, measure_noise
from exporter.parity.reference import Reference, ReferenceRun
from exporter.progress import Advance
from runtime.errors import listed
from runtime.inputs.registry import largest_batch
from runtime.manifest import Manifest

# What the evidence says of a network that dynamo did not convert.
LEGACY_EXPORTER = "the network was converted by torch.onnx's legacy exporter"


@dataclass(frozen=True, kw_only=True)
class ParityInputs:
    """Everything that a comparison needs besides the paths: the reference's side.

    ``references`` are the reference's outputs for single cases of every size, ``batch`` those for cases that may share
    a batch once they are prepared, and ``decoded_batch`` those that may before. Batches of the promised sizes are made
    of them, over and over where they are larger. ``labels`` are the class names as the user gave them, ``network`` is
    the untouched eager network. ``remeasure`` measures the noise on every input, for differences that are just beyond
    the limits of the few inputs that ``noise`` was measured on. ``thorough`` runs every form on every input alone, and
    more sizes of batches.
    ``fallbacks`` has one sentence for each part of the artifact that is not converted as usual, and
    ``describe_hidden`` says what else than its inputs the network depends on, for the advice on a fault, and
    ``describe_unstable`` whether the eager model itself moves as far on an input, by the input's name.
    """

    manifest: Manifest
    network: nn.Module
    references: Sequence[ReferenceOutput]
    batch: Sequence[ReferenceOutput]
    decoded_batch: Sequence[ReferenceOutput]
    noise: NoiseMeasurement
    remeasure: Callable[[], NoiseMeasurement]
    labels: Sequence[str]
    max_ratio: float
    lengths: Mapping[str, tuple[int, ...]]
    thorough: bool = False
    describe_hidden: Callable[[], str] = str
    describe_unstable: Callable[[str], str] = str
    not_proven: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, list[ReferenceOutput]]:
        """The references by the origin of their inputs."""
        groups: dict[str, list[ReferenceOutput]] = {}
        for reference in self.references:
            groups.setdefault(reference.case.group, []).append(reference)
        return groups

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes to run, of those that the eager model takes: up to the largest that the runtime makes."""
        if self.noise.no_batch:
            return (1,)
        return (*(BATCH_SIZES if self.thorough else (1, OTHER_BATCH)), largest_batch(self.manifest.inputs))


@dataclass(frozen=True, kw_only=True)
class EagerModel:
    """The eager model on its cases: ``run`` is what ``reference`` gave for all of ``source``'s cases.

    ``takes_batches`` says whether it takes several inputs at once.
    """

    source: CaseSource
    reference: Reference
    run: ReferenceRun
    postprocessing: Postprocessing
    takes_batches: bool = True

    @property
    def dimensions(self) -> Dimensions:
        """The names of the network's dynamic dimensions, by its inputs and their axes."""
        if self.takes_batches:
            return self.source.dimensions
        return {
            name: {axis: dimension for axis, dimension in axes.items() if axis}
            for name, axes in self.source.dimensions.items()
        }

    def example(self) -> Mapping[str, torch.Tensor]:
        """Return the network's inputs for tracing: a batch of two, or of one where it takes no more."""
        return self._as_taken(self.source.example(self.run.prepared))

    def validation_inputs(self) -> Sequence[Mapping[str, torch.Tensor]]:
        """Return inputs of the shapes that a converted network has to take."""
        return [self._as_taken(inputs) for inputs in self.source.validation_inputs(self.run.prepared)]

    def _as_taken(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        return inputs if self.takes_batches else {name: tensor[:1] for name, tensor in inputs.items()}

    @cached_property
    def references(self) -> tuple[ReferenceOutput, ...]:
        """The reference's outputs, one per case."""
        return self.run.outputs(self.postprocessing)


@dataclass(frozen=True, kw_only=True)
class Remarks:
    """Sentences for the evidence: what was assumed or could not be made, and what was not converted as usual."""

    assumptions: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()


NO_REMARKS = Remarks()


def build_inputs(
    eager: EagerModel,
    *,
    manifest: Manifest,
    labels: Sequence[str],
    max_ratio: float,
    remarks: Remarks = NO_REMARKS,
    advance: Advance | None = None,
) -> ParityInputs:
    """Return what artifacts with ``manifest`` are compared with: outputs, batches and the measured noise.

    The manifest's task and inputs are those that the user asked for. ``labels`` are the class names as the user gave
    them; a difference beyond ``max_ratio`` times the noise is a fault. ``advance`` hears how much of the noise is
    measured.
    """
    measure = partial(
        measure_noise, eager.reference.network, eager.references, eager.postprocessing, max_ratio=max_ratio
    )
    batch, decoded_batch = _run_batches(eager)
    noise = measure(advance=advance)

    def unstable(name: str) -> str:
        network = eager.reference.network
        return describe_unstable(network, eager.references, eager.postprocessing, noise, name=name)

    return ParityInputs(
        manifest=manifest,
        network=eager.reference.network,
        references=eager.references,
        batch=batch,
        decoded_batch=decoded_batch,
        noise=noise,
        remeasure=partial(measure, every_input=True),
        labels=labels,
        max_ratio=max_ratio,
        lengths=lengths_of(eager.source, eager.run.prepared),
        describe_hidden=partial(eager.reference.describe_hidden, eager.run),
        describe_unstable=unstable,
        not_proven=(
            *eager.source.skipped_samples,
            *eager.source.assumptions,
            *eager.run.dropped,
            *_left_out(manifest),
            *remarks.assumptions,
        ),
        fallbacks=remarks.fallbacks,
    )


def _run_batches(eager: EagerModel) -> tuple[Sequence[ReferenceOutput], Sequence[ReferenceOutput]]:
    """Return the reference for cases that may share a batch once they are prepared, and for those that may before."""
    known = {id(reference.case): reference for reference in eager.references}
    batches = []
    for cases in (eager.source.batch(eager.run.cases), eager.source.decoded_batch(eager.run.cases)):
        made = list({id(case): case for case in cases if id(case) not in known}.values())
        try:
            outputs = eager.reference.run(made).outputs(eager.postprocessing) if made else ()
        except ConversionError:  # of the cases that were made for a batch, the network takes none
            outputs = ()
        known |= {id(reference.case): reference for reference in outputs}
        taken = [known[id(case)] for case in cases if id(case) in known]
        batches.append(taken or [eager.references[0]])
    return batches[0], batches[1]


def _left_out(manifest: Manifest) -> tuple[str, ...]:
    """Return a sentence on the keys that the user left out of the weights."""
    ignored = manifest.source.keys.ignored
    return (f"left out by --ignore-keys: {listed([repr(key) for key in ignored])}",) if ignored else ()
