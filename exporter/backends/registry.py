"""Registry of the forms of the artifact."""

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from exporter import parity
from exporter.backends import onnx_graph, runtime, torchscript
from exporter.backends.backend import Backend, NetworkSource, OpenArtifact
from exporter.conversion.network_io import flatten
from exporter.inputs.adapter import InputPipeline
from exporter.inputs.image.pixel_check import GeometryExecution
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.paths import SubgraphCache
from runtime.artifact.open import Artifact
from runtime.evidence import Evidence
from runtime.manifest import LAYOUT, Manifest
from runtime.model import Model

# By the names of their paths in the evidence, and in its order. A new form is one more line.
BACKENDS: dict[str, Backend] = {
    LAYOUT.model: onnx_graph,
    parity.RUNTIME: runtime,
    LAYOUT.torchscript: torchscript,
}


def backends_to_write() -> tuple[Backend, ...]:
    """Return the forms that have files of their own, the conversion to ONNX last: it takes the longest by far."""
    return tuple(backend for backend in reversed(BACKENDS.values()) if backend.files)


def backends_in(manifest: Manifest) -> dict[str, Backend]:
    """Return the forms that an artifact has."""
    return {
        path: backend
        for path, backend in BACKENDS.items()
        if not backend.files or any(name in manifest.files for name in backend.files)
    }


def geometry_executions() -> dict[str, GeometryExecution]:
    """Return every form's own execution of an image transform's geometry, by its path."""
    return {path: backend.open_geometry for path, backend in BACKENDS.items()}


def network_source(
    network: nn.Module, adapter: InputPipeline, postprocessing: Postprocessing, run: parity.ReferenceRun
) -> NetworkSource:
    """Return what the forms of ``network`` are written from; ``run`` is the reference's, on the adapter's own cases."""
    example = adapter.example(run.prepared)
    return NetworkSource(
        network=network,
        flat=flatten(network, tuple(example), run.values[0], whole=postprocessing.whole),
        adapter=adapter,
        postprocessing=postprocessing,
        example=example,
        validation_inputs=adapter.validation_inputs(run.prepared),
    )


@contextmanager
def open_paths(
    artifact: Artifact,
    model: Model,
    adapter: InputPipeline,
    postprocessing: Postprocessing,
    *,
    only: Collection[str] | None = None,
) -> Iterator[Sequence[parity.ServedPath]]:
    """Give the paths through an artifact, each with its inner stages within reach; ``only`` those of some names."""
    with warnings.catch_warnings():
        for pattern in adapter.expected_warnings:
            warnings.filterwarnings("ignore", message=pattern, category=UserWarning)
        opened = OpenArtifact(
            artifact=artifact,
            model=model,
            adapter=adapter,
            postprocessing=postprocessing,
            subgraphs=SubgraphCache(artifact, model.release),
        )
        yield [
            backend.open_path(opened)
            for path, backend in backends_in(artifact.manifest).items()
            if only is None or path in only
        ]


def compare_staged(
    artifact: Artifact, subject: parity.ParityInputs, adapter: InputPipeline, postprocessing: Postprocessing
) -> Evidence:
    """Return the evidence on an artifact on the CPU, every form of it run as it will be served."""
    with (
        Model(artifact, device="cpu") as model,
        open_paths(artifact, model, adapter, postprocessing) as paths,
    ):
        return parity.compare(paths, subject)
