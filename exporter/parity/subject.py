"""Subject of a parity check: the reference's side, built in one place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import BATCH_SIZES, CaseSource, ReferenceOutput, lengths_of
from exporter.parity.noise import NoiseMeasurement, measure_noise
from exporter.parity.reference import Reference, ReferenceRun
from runtime.errors import listed
from runtime.manifest import Manifest

# What the evidence says of a network that dynamo did not convert.
LEGACY_EXPORTER = "the network was converted by torch.onnx's legacy exporter"


@dataclass(frozen=True, kw_only=True)
class ParityInputs:
    """Everything that a comparison needs besides the paths: the reference's side.

    ``references`` are the reference's outputs for single cases of every size, ``batch`` those for cases that may share
    a batch, of which batches of the promised sizes are made. ``labels`` are the class names as the user gave them.
    ``remeasure`` measures the noise on every input, for differences that are just beyond the limits of the few inputs
    that ``noise`` was measured on. ``fallbacks`` has one sentence for each part of the artifact that is
    not converted as usual.
    """

    manifest: Manifest
    references: Sequence[ReferenceOutput]
    batch: Sequence[ReferenceOutput]
    noise: NoiseMeasurement
    remeasure: Callable[[], NoiseMeasurement]
    labels: Sequence[str]
    max_ratio: float
    lengths: Mapping[str, tuple[int, ...]]
    not_compared: tuple[str, ...] = ()
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
        """The batch sizes that the eager model itself takes."""
        return (1,) if self.noise.no_batch else BATCH_SIZES


@dataclass(frozen=True, kw_only=True)
class EagerModel:
    """The eager model on its cases: ``run`` is what ``reference`` gave for all of ``source``'s cases."""

    source: CaseSource
    reference: Reference
    run: ReferenceRun
    postprocessing: Postprocessing

    @cached_property
    def references(self) -> tuple[ReferenceOutput, ...]:
        """The reference's outputs, one per case."""
        return self.run.outputs(self.postprocessing)


def build_inputs(eager: EagerModel, *, manifest: Manifest, labels: Sequence[str], max_ratio: float) -> ParityInputs:
    """Return what artifacts with ``manifest`` are compared with: outputs, batches and the measured noise.

    The manifest's task and inputs are those that the user asked for. ``labels`` are the class names as the user gave
    them; a difference beyond ``max_ratio`` times the noise is a fault.
    """
    measure = partial(
        measure_noise, eager.reference.network, eager.references, eager.postprocessing, max_ratio=max_ratio
    )
    batch = eager.reference.run(eager.source.batch(eager.run.cases))
    return ParityInputs(
        manifest=manifest,
        references=eager.references,
        batch=batch.outputs(eager.postprocessing),
        noise=measure(),
        remeasure=partial(measure, every_input=True),
        labels=labels,
        max_ratio=max_ratio,
        lengths=lengths_of(eager.source.dimensions, eager.run.prepared),
        not_compared=(*eager.source.skipped_samples, *eager.source.assumptions, *_left_out(manifest)),
        fallbacks=(LEGACY_EXPORTER,) if manifest.source.onnx_exporter == "legacy" else (),
    )


def _left_out(manifest: Manifest) -> tuple[str, ...]:
    """Return a sentence on the keys that the user left out of the weights."""
    ignored = manifest.source.keys.ignored
    return (f"left out by --ignore-keys: {listed([repr(key) for key in ignored])}",) if ignored else ()
