"""Registry of the forms of the artifact."""

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec
from torch import nn

from exporter import parity
from exporter.assemble import TracingInputs
from exporter.backends import onnx_graph, runtime, torchscript
from exporter.backends.backend import Backend, NetworkSource, OpenArtifact, absence
from exporter.checkpoint.memory import release_memory
from exporter.conversion.network_io import flatten
from exporter.inputs.adapter import InputPipeline
from exporter.inputs.image.pixel_check import GeometryExecution
from exporter.options.forms import FormOptions
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.array_diff import measure_difference
from exporter.parity.paths import SubgraphCache, split_batch
from exporter.parity.weights import compare_weights
from exporter.parity.whole import check_inputs, check_labels, check_task, with_checks
from exporter.progress import Advance
from runtime.artifact.open import Artifact
from runtime.artifact.proof import read_evidence
from runtime.evidence import Evidence, WholeCheck
from runtime.manifest import LAYOUT, Manifest
from runtime.model import Model

# By the names of their paths in the evidence, and in its order. A new form is one more line.
BACKENDS: dict[str, Backend] = {
    LAYOUT.model: onnx_graph,
    parity.RUNTIME: runtime,
    LAYOUT.torchscript: torchscript,
}


def backends_to_write(options: FormOptions) -> tuple[Backend, ...]:
    """Return the wanted forms with files of their own, the conversion to ONNX last: it takes the longest by far."""
    wanted = {LAYOUT.model} if options.forms == "onnx" else BACKENDS.keys()
    return tuple(BACKENDS[path] for path in reversed(BACKENDS) if path in wanted and BACKENDS[path].files)


def backends_in(manifest: Manifest) -> dict[str, Backend]:
    """Return the forms that an artifact has."""
    return {
        path: backend
        for path, backend in BACKENDS.items()
        if not backend.files or any(name in manifest.files for name in backend.files)
    }


def fallbacks_of(artifact: Artifact) -> tuple[str, ...]:
    """Return why the network of an artifact was not converted as usual, as the evidence of its export says it."""
    if artifact.manifest.source.onnx_exporter != "legacy":
        return ()
    return read_evidence(artifact).fallbacks or (parity.LEGACY_EXPORTER,)


def missing_forms(artifact: Artifact) -> tuple[str, ...]:
    """Return why an artifact lacks forms that could not be made, as the evidence of its export says it."""
    names = (name for backend in BACKENDS.values() for name in backend.files)
    begins = tuple(absence(name) for name in names if name not in artifact.manifest.files)
    return tuple(text for text in read_evidence(artifact).not_proven if text.startswith(begins)) if begins else ()


def geometry_executions() -> dict[str, GeometryExecution]:
    """Return every form's own execution of an image transform's geometry, by its path."""
    return {path: backend.open_geometry for path, backend in BACKENDS.items()}


def network_source(
    network: nn.Module, adapter: InputPipeline, eager: parity.EagerModel, options: FormOptions
) -> NetworkSource:
    """Return what the forms of ``network`` are written from; ``eager`` is its reference, on the adapter's own cases."""
    example, postprocessing = eager.example(), eager.postprocessing
    prepared = eager.references[0].prepared
    return NetworkSource(
        network=network,
        flat=flatten(
            network,
            tuple(example),
            eager.run.values[0],
            whole=postprocessing.whole,
            batch_axes=postprocessing.batch_axes,
        ),
        adapter=adapter,
        postprocessing=postprocessing,
        inputs=TracingInputs(dimensions=eager.dimensions, example=example, validation_inputs=eager.validation_inputs()),
        raw=prepared.decoded or prepared.arrays,
        options=options,
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
        branches = onnx_graph.has_branches(artifact)
        paths = [
            replace(backend.open_path(opened), branches=branches)
            for path, backend in backends_in(artifact.manifest).items()
            if only is None or path in only
        ]
        try:
            yield paths
        finally:
            for opened_path in paths:
                opened_path.release()


def compare_staged(
    artifact: Artifact,
    subject: parity.ParityInputs,
    adapter: InputPipeline,
    postprocessing: Postprocessing,
    *,
    advance: Advance | None = None,
) -> Evidence:
    """Return the evidence on an artifact on the CPU, every form of it run as it will be served.

    ``advance`` hears how many inputs are compared.
    """
    with (
        Model(artifact, device="cpu") as model,
        open_paths(artifact, model, adapter, postprocessing) as paths,
    ):
        evidence = parity.compare(paths, subject, advance=advance)
    # The sessions hold the weights as well.
    release_memory(subject.network)
    return compare_whole(artifact, subject, adapter, evidence)


def compare_whole(
    artifact: Artifact, subject: parity.ParityInputs, adapter: InputPipeline, evidence: Evidence, *, labels: bool = True
) -> Evidence:
    """Return the evidence with what can be compared whole: the manifest, the labels, the adapter's own, the weights.

    Without ``labels`` they are the artifact's own, and prove nothing.
    """
    manifest = artifact.manifest
    checks = compare_manifests(artifact, subject, adapter)
    if labels and subject.labels:
        checks.append(check_labels(artifact, subject.labels))
    checks += adapter.compare_whole(artifact)
    left_out = []
    for backend in backends_in(manifest).values():
        for check, sentence in _compare_weights(backend, artifact, subject):
            checks.append(check)
            left_out += [sentence] if sentence else []
    evidence = msgspec.structs.replace(evidence, not_proven=(*evidence.not_proven, *left_out))
    return with_checks(evidence, checks, random=subject.noise.random)


def _compare_weights(
    backend: Backend, artifact: Artifact, subject: parity.ParityInputs
) -> list[tuple[WholeCheck, str]]:
    """Return the check of each of a backend's files, whose weights are in memory no longer than this takes."""
    constants = backend.read_weights(artifact)
    return [compare_weights(subject.network, weights, path) for path, weights in constants.items()]


def compare_manifests(artifact: Artifact, subject: parity.ParityInputs, adapter: InputPipeline) -> list[WholeCheck]:
    """Return the checks of the inputs and the task in a manifest with those that the user asked for."""
    return [
        *check_inputs(subject.manifest.inputs, artifact.manifest.inputs, stage=adapter.inputs_stage),
        *check_task(subject.manifest.task, artifact.manifest.task),
    ]


def is_right_unoptimized(artifact: Artifact, subject: parity.ParityInputs, evidence: Evidence) -> bool:
    """Return whether the graph gives eager's outputs for the input at fault, once onnxruntime optimizes nothing."""
    row = evidence.rows[evidence.first_fault] if evidence.first_fault is not None else None
    reference = next((one for one in subject.references if row and one.case.name == row.worst_input), None)
    if reference is None:
        return False
    try:
        outputs = onnx_graph.run_unoptimized(artifact, reference.prepared.arrays)
        (single,) = split_batch(outputs, artifact.manifest, 1)
    except Exception:  # the graph itself may be what fails
        return False
    tolerance = subject.noise.tolerance("end to end", "values")
    difference = measure_difference(single, reference.outputs, tolerance)
    return difference.fault is None and bool((difference.values <= tolerance.limit).all())
