"""Networks of an artifact, loaded by precision."""

from typing import TYPE_CHECKING, Any

import msgspec

from runtime.artifact.open import Artifact
from runtime.artifact.variants import device_for
from runtime.engine.executor import Executor
from runtime.engine.graph import StoredGraph
from runtime.manifest import DEFERRING, FULL_PRECISION, Deferral, Manifest, Variant
from runtime.outputs.registry import open_interpreter

if TYPE_CHECKING:
    from runtime.engine.deferral import DeferralRule


class Graphs(msgspec.Struct, frozen=True, kw_only=True):
    """The two graphs of a variant: ``raw`` takes raw inputs, ``network`` what the host prepares."""

    network: StoredGraph
    raw: StoredGraph


def read_graphs(artifact: Artifact, variant: Variant) -> Graphs:
    """Return the graphs of a variant. Raises ArtifactError as ``Artifact.graph`` does."""
    network, raw = (
        artifact.graph(name, weights=variant.weights, shared=variant.shared_weights)
        for name in (variant.network, variant.model)
    )
    return Graphs(network=network, raw=raw)


def open_executor(artifact: Artifact, graphs: Graphs, *, precision: str, device: str, **options: Any) -> Executor:
    """Return what runs the network of a precision, of whose variant ``graphs`` are; ``options`` are an Executor's.

    Raises DeviceError for a device that the precision does not run on.
    """
    manifest = artifact.manifest
    variant = manifest.variant(precision)
    options |= {
        "device": device_for(variant, device),
        "every_output_batched": len(manifest.batched_outputs) == len(manifest.outputs),
        "outputs": {output.name: output.dtype for output in manifest.outputs},
    }
    deferral = variant.approximation.deferral if variant.approximation is not None else None
    if deferral is None or not precision.endswith(DEFERRING):
        return Executor(graphs.network, **options)
    # Most models run in one precision: the first label does not wait for this.
    from runtime.engine.deferral import DeferringExecutor

    full = read_graphs(artifact, manifest.variant(FULL_PRECISION))
    return DeferringExecutor(
        graphs.network,
        full=Executor(full.network, **options),
        full_raw=full.raw,
        rule=deferral_rule(manifest, deferral),
        **options,
    )


def deferral_rule(manifest: Manifest, deferral: Deferral) -> "DeferralRule":
    """Return which rows of a variant's outputs run again."""
    from runtime.engine.deferral import DeferralRule

    return DeferralRule(
        output=manifest.outputs[0].name, limit=deferral.limit, margins=open_interpreter(manifest.task).margins
    )
