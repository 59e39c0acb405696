"""Registry of the input kinds."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import msgspec

from runtime.artifact.open import Artifact
from runtime.engine.concurrency import BATCH_SIZES
from runtime.evidence import STAGES, Stage
from runtime.inputs.decoder import Decoder
from runtime.inputs.payload import Payload
from runtime.inputs.source import SourceFormat
from runtime.manifest import ImageInput, Input, TabularInput, TensorInput, TextInput, TokensInput

# The name of the kind of a model with more than one input.
SEVERAL = "several"


def _no_extras(_spec: Any) -> tuple[str, ...]:
    return ()


class InputKind(msgspec.Struct, frozen=True, kw_only=True):
    """One input kind: its code as ``module:name``, imported at first use, and what other modules say of it.

    ``decoder`` is a class that takes the manifest's input, the artifact, and those of ``decoder_options`` that the
    caller sets. ``source`` is a function from the manifest's input to a SourceFormat, ``payload`` a Payload class that
    takes the manifest's input. ``example`` is what ``truecopy predict`` takes. ``prepared_stage`` is the stage of the
    parity check whose outputs prepared inputs are, and ``prepared_unit`` is what they differ by. ``costly_to_decode``
    inputs are decoded one per job, and gain nothing from batches on a CPU. ``extras`` returns the optional dependencies
    that a server needs for an input.
    """

    decoder: str
    source: str
    payload: str
    example: str
    prepared_stage: Stage = "decode"
    prepared_unit: str = "values"
    costly_to_decode: bool = False
    decoder_options: tuple[str, ...] = ()
    extras: Callable[[Any], tuple[str, ...]] = _no_extras


INPUT_KINDS: dict[type[Any], InputKind] = {
    ImageInput: InputKind(
        decoder="runtime.inputs.image.decoder:ImageDecoder",
        source="runtime.inputs.image.source:source_format",
        payload="runtime.inputs.image.payload:ImagePayload",
        example="photo.jpg",
        prepared_stage="geometry",
        prepared_unit="gray levels",
        costly_to_decode=True,
        decoder_options=("max_pixels",),
        extras=lambda spec: ("tiff",) if spec.mode == "bands" else (),
    ),
    TensorInput: InputKind(
        decoder="runtime.inputs.tensor.decoder:TensorDecoder",
        source="runtime.inputs.tensor.source:source_format",
        payload="runtime.inputs.tensor.payload:TensorPayload",
        example="array.npy",
    ),
    TabularInput: InputKind(
        decoder="runtime.inputs.tabular.decoder:TabularDecoder",
        source="runtime.inputs.tabular.source:source_format",
        payload="runtime.inputs.tabular.payload:TabularPayload",
        example="rows.csv",
    ),
    TextInput: InputKind(
        decoder="runtime.inputs.text.decoder:TextDecoder",
        source="runtime.inputs.text.source:source_format",
        payload="runtime.inputs.text.payload:TextPayload",
        example="sentences.txt",
        prepared_stage="tokens",
        extras=lambda _spec: ("text",),
    ),
    TokensInput: InputKind(
        decoder="runtime.inputs.tokens.decoder:TokensDecoder",
        source="runtime.inputs.tokens.source:source_format",
        payload="runtime.inputs.tokens.payload:TokensPayload",
        example="sequences.jsonl",
    ),
}

# Models with more than one input: each of them is of a kind above.
COMPOSITE = InputKind(
    decoder="runtime.inputs.composite.decoder:CompositeDecoder",
    source="runtime.inputs.composite.source:source_format",
    payload="runtime.inputs.composite.payload:CompositePayload",
    example="inputs.jsonl",
)


def kind_of(inputs: Sequence[Input]) -> InputKind:
    """Return the kind of a model's inputs: ``COMPOSITE`` where there are several, prepared as far as any of them is."""
    kinds = [INPUT_KINDS[type(spec)] for spec in inputs]
    if len(kinds) == 1:
        return kinds[0]
    last = max((kind.prepared_stage for kind in kinds), key=STAGES.index)
    units = {kind.prepared_unit for kind in kinds}
    return msgspec.structs.replace(
        COMPOSITE, prepared_stage=last, prepared_unit=units.pop() if len(units) == 1 else COMPOSITE.prepared_unit
    )


def kind_name(inputs: Sequence[Input]) -> str:
    """Return the name of the kind of a model's inputs: ``several`` where there are several."""
    return inputs[0].kind if len(inputs) == 1 else SEVERAL


def open_decoder(artifact: Artifact, **options: Any) -> Decoder:
    """Return the decoder of an artifact's input, or of all of them where it has several.

    ``options`` are the decoders' options by name; each kind takes its own. A limit of one input is that of all parts of
    it together.
    """
    inputs = artifact.manifest.inputs
    sharing = {name: sum(name in INPUT_KINDS[type(spec)].decoder_options for spec in inputs) for name in options}
    limits = {name: limit // max(1, sharing[name]) for name, limit in options.items()}
    decoders = [_open_decoder(spec, artifact, limits) for spec in inputs]
    if len(decoders) == 1:
        return decoders[0]
    names = [spec.name for spec in inputs]
    composite: Decoder = _load(COMPOSITE.decoder)(
        dict(zip(names, decoders, strict=True)), open_payload(inputs), _formats_of(inputs)
    )
    return composite


def largest_batch(inputs: Sequence[Input]) -> int:
    """Return the largest batch that the runtime itself makes of a model's inputs, on any device."""
    kinds = [INPUT_KINDS[type(spec)] for spec in inputs]
    own: int = min(_load(kind.decoder).batch_size for kind in kinds)
    return max(BATCH_SIZES[-1], own)


def open_payload(inputs: Sequence[Input]) -> Payload:
    """Return the wire format of a model's input, or of all of them where it has several."""
    payloads = _payloads_of(inputs)
    if len(payloads) == 1:
        return payloads[inputs[0].name]
    composite: Payload = _load(COMPOSITE.payload)(payloads)
    return composite


def source_format_of(inputs: Sequence[Input]) -> SourceFormat:
    """Return how a model's inputs are stored in files, lists and tables."""
    formats = _formats_of(inputs)
    if len(formats) == 1:
        return formats[inputs[0].name]
    composite: SourceFormat = _load(COMPOSITE.source)(formats)
    return composite


def extras_of(inputs: Sequence[Input]) -> tuple[str, ...]:
    """Return the optional dependencies of this distribution that a model's inputs need, without duplicates."""
    return tuple(dict.fromkeys(extra for spec in inputs for extra in INPUT_KINDS[type(spec)].extras(spec)))


def is_costly_to_decode(inputs: Sequence[Input]) -> bool:
    """Return whether decoding one of a model's inputs costs about as much as a network."""
    return any(INPUT_KINDS[type(spec)].costly_to_decode for spec in inputs)


def _payloads_of(inputs: Sequence[Input]) -> dict[str, Payload]:
    return {spec.name: _load(INPUT_KINDS[type(spec)].payload)(spec) for spec in inputs}


def _formats_of(inputs: Sequence[Input]) -> dict[str, SourceFormat]:
    return {spec.name: _load(INPUT_KINDS[type(spec)].source)(spec) for spec in inputs}


def _open_decoder(spec: Input, artifact: Artifact, options: dict[str, Any]) -> Decoder:
    kind = INPUT_KINDS[type(spec)]
    own_options = {name: options[name] for name in kind.decoder_options if name in options}
    decoder: Decoder = _load(kind.decoder)(spec, artifact, **own_options)
    return decoder


@cache
def _load(reference: str) -> Any:
    """Return what ``module:name`` refers to."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
