"""The network as an ONNX model; the only file that knows torch.onnx."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx
import torch
from torch import nn

from exporter.errors import ConversionError

# torch.onnx's own default in torch 2.14; every operator that the exporter and the writers use exists in it.
OPSET = 20

INPUT = "normalized"
OUTPUT = "logits"


@dataclass(frozen=True, kw_only=True)
class Converted:
    """The network alone: float32 ``normalized`` [batch, ...] to ``logits`` [batch, ...]; and which exporter made it."""

    model: onnx.ModelProto
    exporter: Literal["dynamo", "legacy"]


def to_onnx(network: nn.Module, example: torch.Tensor) -> Converted:
    """Return ``network`` as ONNX, its batch dimension dynamic.

    ``example`` has a batch of 2 or more, because torch specialises a dimension of length 1. The legacy exporter is
    tried where dynamo fails; either result has to pass the same parity check. Raises ConversionError when both fail.
    """
    try:
        return Converted(model=_without_traces(_dynamo(network, example)), exporter="dynamo")
    except Exception as error:  # torch.onnx raises whatever its passes raise
        first = error
    try:
        return Converted(model=_without_traces(_legacy(network, example)), exporter="legacy")
    except Exception as error:
        raise ConversionError(
            f"'{type(network).__name__}': torch.onnx cannot export it: {_first_line(first)} "
            f"(legacy exporter: {_first_line(error)}). Replace the operation that it names, or upgrade torch."
        ) from first


def _dynamo(network: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    with _quiet():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            external_data=False,
            optimize=True,
            verify=False,
            verbose=False,
            report=False,
            profile=False,
            dump_exported_program=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _legacy(network: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    stream = io.BytesIO()
    with _quiet():
        torch.onnx.export(
            network,
            (example,),
            stream,  # type: ignore[arg-type]  # the legacy exporter writes to streams, too
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            external_data=False,
            do_constant_folding=True,
            export_params=True,
            keep_initializers_as_inputs=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            verbose=False,
        )
    return onnx.load_from_string(stream.getvalue())


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what names this machine or this run: stack traces with paths, the exported program, intermediate shapes."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.doc_string = model.graph.doc_string = ""
    for node in _all_nodes(model):
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    return model


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    pending = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending += graph.node


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' progress, their warnings, and their own deprecation: the parity check judges them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
