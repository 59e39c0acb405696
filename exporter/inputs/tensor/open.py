"""Array adapter of an export, from the descriptions in --input."""

import io
from dataclasses import replace
from typing import Any

import numpy as np

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.conversion.network_io import call
from exporter.inputs.kind import InputKind
from exporter.inputs.lengths import completed_lengths
from exporter.inputs.tensor.adapter import TensorAdapter, input_to_text, read_input
from exporter.options.export import ExportOptions
from runtime.artifact.open import Artifact
from runtime.manifest import TensorInput


def matches(options: ExportOptions, _rebuilt: RebuiltNetwork) -> bool:
    """Return whether the user described inputs."""
    return bool(options.inputs)


def open_adapter(options: ExportOptions, rebuilt: RebuiltNetwork) -> TensorAdapter:
    """Return the adapter of the inputs that the user described.

    Raises ExportError for a description that cannot be read.
    """
    specs = [read_input(text) for text in options.inputs]
    return TensorAdapter(
        specs,
        samples=options.samples,
        lengths=options.lengths,
        probe=lambda tensors: call(rebuilt.network, tensors),
    )


def complete_options(options: ExportOptions, spec: TensorInput, artifact: Artifact) -> ExportOptions:
    """Return ``options`` with the description of an artifact's input, and the lengths that were compared."""
    return replace(
        options,
        inputs=(*options.inputs, input_to_text(spec)),
        lengths=completed_lengths(options.lengths, artifact, spec.shape[1:]),
    )


def to_bytes(source: Any, spec: TensorInput, _subject: str) -> bytes:
    """Return an array as an .npy file."""
    return array_to_bytes(source, spec.dtype)


def array_to_bytes(source: Any, dtype: str) -> bytes:
    """Return an array, or numbers in nested lists, as an .npy file of ``dtype``."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(source, dtype=dtype), allow_pickle=False)
    return stream.getvalue()


KIND = InputKind(
    matches=matches,
    open_adapter=open_adapter,
    complete_options=complete_options,
    to_bytes=to_bytes,
    takes_several=True,
)
