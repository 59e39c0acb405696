"""A network to ONNX: as it is, or, where it decodes step by step, as a loop over its step."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from exporter.conversion.decoder_loop import check_no_python_loop, is_decoder, read_decoder, to_loop
from exporter.conversion.to_onnx import ConvertedNetwork, to_onnx
from exporter.errors import ConversionError
from exporter.inputs.adapter import InputAdapter
from exporter.inputs.tokens.adapter import TokensAdapter
from exporter.outputs.postprocessing import Postprocessing
from runtime.manifest import Tokens


def convert(
    network: nn.Module,
    flat: nn.Module,
    adapter: InputAdapter,
    postprocessing: Postprocessing,
    example: Mapping[str, torch.Tensor],
    validation_inputs: Sequence[Mapping[str, torch.Tensor]],
) -> ConvertedNetwork:
    """Return the converted network; ``flat`` is ``network`` with tensors in and out by position.

    A decoder is not converted by its forward, whose loop a trace would unroll, but by its two halves. Raises
    ConversionError.
    """
    gives_tokens = isinstance(postprocessing.task, Tokens)
    if gives_tokens and is_decoder(network) and isinstance(adapter, TokensAdapter):
        return _convert_decoder(network, adapter, postprocessing)
    if gives_tokens and isinstance(adapter, TokensAdapter):
        check_no_python_loop(network, call=adapter.call, draw=adapter.draw)
    return to_onnx(
        flat,
        example,
        outputs=postprocessing.inner_names,
        dimensions=adapter.dimensions,
        validation_inputs=validation_inputs,
    )


def _convert_decoder(network: nn.Module, adapter: TokensAdapter, postprocessing: Postprocessing) -> ConvertedNetwork:
    name, *others = adapter.dimensions
    if others:
        raise ConversionError(
            f"'{type(network).__name__}': decodes step by step, and 'encode(tokens)' takes the tokens alone: expected "
            f"one --input, got {', '.join(map(repr, others))} beside it. Leave it out, or find padding by its number."
        )
    (output,) = postprocessing.inner_names
    decoder = read_decoder(network, name=name, draw=adapter.draw)
    encoder, step = (
        to_onnx(
            half.module,
            half.example,
            outputs=half.outputs,
            dimensions=half.dimensions,
            validation_inputs=[dict(zip(half.example, probe, strict=True)) for probe in half.probes],
        )
        for half in (decoder.encoder, decoder.step)
    )
    return ConvertedNetwork(
        model=to_loop(encoder.model, step.model, decoder, name=name, output=output),
        exporter="legacy" if "legacy" in (encoder.exporter, step.exporter) else "dynamo",
    )
