"""Token adapter of an export, from the descriptions in --input."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.architectures.seq2seq import GreedySeq2Seq
from exporter.conversion.network_io import call
from exporter.errors import PreprocessingError
from exporter.inputs.kind import InputKind
from exporter.inputs.lengths import check_names, completed_lengths, range_of
from exporter.inputs.tokens.adapter import TokensAdapter
from exporter.inputs.tokens.options import TokenOptions, is_tokens, read_token_inputs
from exporter.inputs.tokens.vocabulary import read_words
from exporter.options.export import ExportOptions
from runtime.artifact.open import Artifact
from runtime.inputs.text.decoder import LENGTH
from runtime.manifest import TokensInput


def check_described(options: ExportOptions, rebuilt: RebuiltNetwork) -> None:
    """Raise PreprocessingError where a sequence-to-sequence network's tokens are not described."""
    if isinstance(rebuilt.network, GreedySeq2Seq) and not any(map(is_tokens, options.inputs)):
        raise PreprocessingError(
            f"'{rebuilt.reference}': takes and gives token numbers: expected --input 'tokens=tokens[batch,length]', "
            "and no tokenizer. Pass this --input, and run the tokenizer outside of the artifact."
        )


def matches(options: ExportOptions, _rebuilt: RebuiltNetwork) -> bool:
    """Return whether the user described token sequences."""
    return any(map(is_tokens, options.inputs))


def open_adapter(options: ExportOptions, rebuilt: RebuiltNetwork) -> TokensAdapter:
    """Return the adapter of the token sequences that the user described.

    Raises ExportError for a description or a vocabulary that cannot be read.
    """
    check_names(options.lengths, [LENGTH])
    return TokensAdapter(
        read_token_inputs(options.inputs),
        rebuilt.network,
        TokenOptions(
            vocabulary=read_words(
                options.vocabulary,
                unknown=options.unknown_word,
                lowercase=options.lowercase,
                preprocess=options.preprocess,
            ),
            pad_id=options.pad_id,
            max_length=options.max_length,
            lengths=range_of(LENGTH, options.lengths),
            samples=options.samples,
        ),
        call=lambda tensors: call(rebuilt.network, tensors),
    )


def complete_options(options: ExportOptions, spec: TokensInput, artifact: Artifact) -> ExportOptions:
    """Return ``options`` with the descriptions, the vocabulary and the lengths of an artifact's input."""
    descriptions = [f"{spec.name}=tokens[batch,length]"] + [
        f"{name}={derived}[batch{'' if derived == 'lengths' else ',length'}]"
        for name, derived in spec.derived_inputs.items()
    ]
    vocabulary = artifact.file(spec.vocabulary) if spec.vocabulary else None
    unknown, lowercase = options.unknown_word, options.lowercase
    if vocabulary is not None:
        # None would mean to look for one in the words.
        unknown = (spec.unknown or "") if unknown is None else unknown
        # The user's own function shows it otherwise.
        if lowercase is None and options.preprocess is None:
            lowercase = bool(spec.lowercase)
    return replace(
        options,
        inputs=(*options.inputs, *descriptions),
        vocabulary=options.vocabulary or vocabulary,
        unknown_word=unknown,
        lowercase=lowercase,
        pad_id=spec.pad_id if options.pad_id is None else options.pad_id,
        max_length=options.max_length or spec.max_length,
        lengths=completed_lengths(options.lengths, artifact, [LENGTH]),
    )


def to_bytes(source: Sequence[Any], _spec: TokensInput, _subject: str) -> bytes:
    """Return a sequence as a JSON list."""
    return json.dumps([int(token) for token in source]).encode()


KIND = InputKind(
    matches=matches,
    open_adapter=open_adapter,
    complete_options=complete_options,
    to_bytes=to_bytes,
)
