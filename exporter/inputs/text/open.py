"""Text adapter of an export, from the tokenizer in --tokenizer or beside the model."""

import json
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from exporter.architectures import HUGGING_FACE
from exporter.architectures.rebuild import RebuiltNetwork
from exporter.architectures.registry import Logits, inner_model
from exporter.architectures.transformers_config import config_of
from exporter.conversion.network_io import call
from exporter.inputs.kind import InputKind
from exporter.inputs.text.adapter import TextAdapter
from exporter.inputs.text.tokenizer import read_tokenizer
from exporter.options.export import ExportOptions
from runtime.artifact.open import Artifact
from runtime.inputs.text.decoder import INPUT_IDS
from runtime.manifest import LAYOUT, TextInput


def matches(options: ExportOptions, rebuilt: RebuiltNetwork) -> bool:
    """Return whether the user gave a tokenizer, or the forward of a transformers model takes token numbers."""
    if options.tokenizer is not None:
        return True
    network = rebuilt.network
    model = inner_model(network)
    # ImageGPT calls the colors of an image's pixels so.
    if not isinstance(network, Logits) or "ForImageClassification" in type(model).__name__:
        return False
    return INPUT_IDS in signature(model.forward).parameters


def open_adapter(options: ExportOptions, rebuilt: RebuiltNetwork) -> TextAdapter:
    """Return the adapter with the user's tokenizer, or the one in the model's folder.

    Raises ExportError where the tokenizer cannot be read.
    """
    network = rebuilt.network
    folder = rebuilt.reference.removeprefix(HUGGING_FACE) if rebuilt.reference.startswith(HUGGING_FACE) else None
    path = options.tokenizer or (Path(folder) if folder else None)
    assert path is not None
    model = inner_model(network)
    config = config_of(network)
    longest = getattr(config, "max_position_embeddings", None)
    return TextAdapter(
        read_tokenizer(
            path,
            max_length=options.max_length,
            longest=longest,
            carried=options.tokenizer_input,
            trust=options.trust,
        ),
        takes=tuple(signature(model.forward).parameters),
        pairs=bool(options.text_pairs),
        samples=options.samples,
        config=config,
        call=None if options.part else lambda tensors: call(network, tensors),
    )


def complete_options(options: ExportOptions, spec: TextInput, artifact: Artifact) -> ExportOptions:
    """Return ``options`` with the lengths of an artifact's input, and its tokenizer where the user's is not at hand."""
    own = options.tokenizer is None and not _has_tokenizer(options, artifact)
    return replace(
        options,
        tokenizer=artifact.file(spec.tokenizer) if own else options.tokenizer,
        tokenizer_input=spec if own else None,
        text_pairs=spec.pairs if options.text_pairs is None else options.text_pairs,
        max_length=options.max_length or spec.max_length,
    )


def _has_tokenizer(options: ExportOptions, artifact: Artifact) -> bool:
    """Return whether the model's own folder, which an export takes the tokenizer from, is here."""
    reference = artifact.manifest.source.architecture if options.arch is None else options.arch
    if not isinstance(reference, str) or not reference.startswith(HUGGING_FACE):
        return False
    folder = Path(reference.removeprefix(HUGGING_FACE))
    return any((folder / name).is_file() for name in (LAYOUT.tokenizer, "tokenizer_config.json"))


def to_bytes(source: Any, spec: TextInput, _subject: str) -> bytes:
    """Return a text in UTF-8, or a pair of texts as a JSON list."""
    return json.dumps(list(source)).encode() if spec.pairs else str(source).encode()


KIND = InputKind(
    matches=matches,
    open_adapter=open_adapter,
    complete_options=complete_options,
    to_bytes=to_bytes,
)
