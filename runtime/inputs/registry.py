"""Registry of the input kinds."""

from importlib import import_module
from typing import Any

from runtime.artifact.open import Artifact
from runtime.inputs.composite import SeveralDecoder
from runtime.inputs.decoder import Decoder
from runtime.manifest import ImageInput, Input, TabularInput, TensorInput, TextInput, TokensInput

# The class that decodes a kind, by module and name: a kind's libraries load when a model of that kind does.
DECODERS: dict[type[Any], str] = {
    ImageInput: "runtime.inputs.image.decoder:ImageDecoder",
    TensorInput: "runtime.inputs.tensor.decoder:TensorDecoder",
    TabularInput: "runtime.inputs.tabular.decoder:RowDecoder",
    TextInput: "runtime.inputs.text.decoder:TextDecoder",
    TokensInput: "runtime.inputs.tokens.decoder:TokensDecoder",
}


def open_decoder(artifact: Artifact, *, max_pixels: int) -> Decoder:
    """Return the decoder for an artifact's input, or for all of them where it has several."""
    inputs = artifact.manifest.inputs
    decoders = [_open(spec, artifact, max_pixels) for spec in inputs]
    if len(decoders) == 1:
        return decoders[0]
    return SeveralDecoder({spec.name: decoder for spec, decoder in zip(inputs, decoders, strict=True)})


def _open(spec: Input, artifact: Artifact, max_pixels: int) -> Decoder:
    module, _, name = DECODERS[type(spec)].partition(":")
    decoder: Decoder = getattr(import_module(module), name)(spec, artifact, max_pixels=max_pixels)
    return decoder
