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
from exporter.recipe import ExportOptions
from runtime.artifact.open import Artifact
from runtime.inputs.text.decoder import INPUT_IDS
from runtime.manifest import TextInput


def matches(options: ExportOptions, rebuilt: RebuiltNetwork) -> bool:
    """Return whether the user gave a tokenizer, or the forward of a transformers model takes token numbers."""
    if options.tokenizer is not None:
        return True
    network = rebuilt.network
    return isinstance(network, Logits) and INPUT_IDS in signature(inner_model(network).forward).parameters


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
        pairs=options.text_pairs,
        samples=options.samples,
        config=config,
        call=lambda tensors: call(network, tensors),
    )


def complete_options(options: ExportOptions, spec: TextInput, artifact: Artifact) -> ExportOptions:
    """Return ``options`` with the tokenizer and the lengths of an artifact's input."""
    return replace(
        options,
        tokenizer=options.tokenizer or artifact.file(spec.tokenizer),
        tokenizer_input=spec if options.tokenizer is None else None,
        text_pairs=spec.pairs,
        max_length=options.max_length or spec.max_length,
    )


def to_bytes(source: Any, spec: TextInput, _subject: str) -> bytes:
    """Return a text in UTF-8, or a pair of texts as a JSON list."""
    return json.dumps(list(source)).encode() if spec.pairs else str(source).encode()


KIND = InputKind(
    matches=matches,
    open_adapter=open_adapter,
    complete_options=complete_options,
    to_bytes=to_bytes,
)
