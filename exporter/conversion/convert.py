"""A network to ONNX: as it is, or, where it decodes step by step, as a loop over its step."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from exporter.conversion.decoder_loop import check_straight, is_decoder, read_decoder, to_loop
from exporter.conversion.to_onnx import Converted, to_onnx
from exporter.errors import ConversionError
from exporter.inputs.adapter import Front
from exporter.inputs.tokens.adapter import TokensFront
from exporter.outputs.postprocessing import Ending
from runtime.manifest import Tokens


def convert(
    network: nn.Module,
    flat: nn.Module,
    front: Front,
    ending: Ending,
    example: Mapping[str, torch.Tensor],
    trials: Sequence[Mapping[str, torch.Tensor]],
) -> Converted:
    """Return the converted network; ``flat`` is ``network`` with tensors in and out by position.

    A decoder is not converted by its forward, whose loop a trace would unroll, but by its two halves. Raises
    ConversionError.
    """
    gives_tokens = isinstance(ending.task, Tokens)
    if gives_tokens and is_decoder(network) and isinstance(front, TokensFront):
        return _convert_decoder(network, front, ending)
    if gives_tokens and isinstance(front, TokensFront):
        check_straight(network, call=front.call, draw=front.draw)
    return to_onnx(flat, example, outputs=ending.inner_names, dimensions=front.dimensions, trials=trials)


def _convert_decoder(network: nn.Module, front: TokensFront, ending: Ending) -> Converted:
    name, *others = front.dimensions
    if others:
        raise ConversionError(
            f"'{type(network).__name__}': decodes step by step, and 'encode(tokens)' takes the tokens alone: expected "
            f"one --input, got {', '.join(map(repr, others))} beside it. Leave it out, or find padding by its number."
        )
    (output,) = ending.inner_names
    decoder = read_decoder(network, name=name, draw=front.draw)
    encoder, step = (
        to_onnx(
            half.module,
            half.example,
            outputs=half.outputs,
            dimensions=half.dimensions,
            trials=[dict(zip(half.example, probe, strict=True)) for probe in half.probes],
        )
        for half in (decoder.encoder, decoder.step)
    )
    return Converted(
        model=to_loop(encoder.model, step.model, decoder, name=name, output=output),
        exporter="legacy" if "legacy" in (encoder.exporter, step.exporter) else "dynamo",
    )
