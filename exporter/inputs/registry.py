"""Registry of the input kinds that a network can take."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.inputs.adapter import InputPipeline
from exporter.inputs.composite import open as composite
from exporter.inputs.image import open as image
from exporter.inputs.kind import InputKind
from exporter.inputs.tabular import open as tabular
from exporter.inputs.tensor import open as tensor
from exporter.inputs.text import open as text
from exporter.inputs.tokens import open as tokens
from exporter.options.export import ExportOptions
from runtime.artifact.open import Artifact
from runtime.inputs.decoder import read_source
from runtime.inputs.registry import open_payload
from runtime.manifest import ImageInput, Manifest, TabularInput, TensorInput, TextInput, TokensInput

# By the manifest's type, in order of precedence: the first that matches is the network's. Images match everything.
INPUT_KINDS: dict[type[Any], InputKind] = {
    TextInput: text.KIND,
    TokensInput: tokens.KIND,
    TabularInput: tabular.KIND,
    TensorInput: tensor.KIND,
    ImageInput: image.KIND,
}


def open_adapter(options: ExportOptions, rebuilt: RebuiltNetwork) -> InputPipeline:
    """Return the adapter of the input kind that the user described, or that the network is for; images otherwise.

    Raises ExportError when the options cannot be read, or do not fit the kind.
    """
    if options.parts:
        return composite.open_adapter(options, rebuilt, _open_single)
    return _open_single(options, rebuilt)[0]


def complete_options(options: ExportOptions, artifact: Artifact) -> ExportOptions:
    """Return ``options`` with what they leave open filled in from an artifact.

    Raises ExportError where the artifact does not hold what an input needs.
    """
    inputs = artifact.manifest.inputs
    kinds = [INPUT_KINDS[type(spec)] for spec in inputs]
    if len(inputs) > 1 and (options.parts or not all(kind.takes_several for kind in kinds)):
        return composite.complete_options(options, artifact, INPUT_KINDS)
    completed = options
    for spec, kind in zip(inputs, kinds, strict=True):
        completed = kind.complete_options(completed, spec, artifact)
    # Each described input adds its description; the user's own stand for all of them.
    return replace(completed, inputs=options.inputs or completed.inputs)


def _open_single(options: ExportOptions, rebuilt: RebuiltNetwork) -> tuple[InputPipeline, InputKind]:
    """Return the adapter of a network's only input, or of one of its parts, and its kind."""
    tokens.check_described(options, rebuilt)
    spec, kind = next((spec, kind) for spec, kind in INPUT_KINDS.items() if kind.matches(options, rebuilt))
    options.check(kinds=(str(spec.__struct_config__.tag),))
    return kind.open_adapter(options, rebuilt), kind


def to_bytes(source: Any, manifest: Manifest) -> bytes:
    """Return an input in its encoded form, as a case has it: a path's bytes, bytes as they are, or a value encoded."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, Path):
        return read_source(source, f"'{source}'")
    if len(manifest.inputs) > 1:
        return json.dumps(open_payload(manifest.inputs).to_json(composite.read_files(source))).encode()
    spec = manifest.inputs[0]
    return INPUT_KINDS[type(spec)].to_bytes(source, spec, manifest.name)
