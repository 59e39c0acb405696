"""ONNX conversion of a network; the only file that uses torch.onnx."""

import contextlib
import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxscript import ir
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from exporter.conversion.arithmetic import ConvertibleArithmetic
from exporter.conversion.attention import convertible_attention
from exporter.conversion.experts import convertible_experts
from exporter.conversion.failures import reason_of, remedy_of
from exporter.conversion.known_faults import avoid_known_faults
from exporter.conversion.network_io import Dimensions, name_of
from exporter.conversion.node_builder import all_nodes
from exporter.conversion.opsets import lowest_ir_version, opset_of
from exporter.conversion.small_constants import small_constants_kept
from exporter.conversion.to_torchscript import compiled_modules, traced_reads
from exporter.conversion.validation import validate
from exporter.conversion.value_reads import check_branches
from exporter.errors import ConversionError
from runtime.errors import listed

# torch.onnx's own default in torch 2.14; every operator that the exporter and the writers use exists in it.
OPSET = 20

# The version of the file format of graphs that are made here, such as a test of a part.
IR_VERSION = 10

# Values of the network that would have the name of an input or output of the artifact have this before their own.
NETWORK_PREFIX = "network/"

# The name of the dimension that every input and output has first.
BATCH = "batch"

# onnxruntime's severity of messages that stops it from printing errors that are raised as well.
LOG_FATAL = 4

# Smaller constants stay in the skeleton of a converted network.
_APART_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class ConvertedNetwork:
    """The network alone, from its named inputs to its named outputs, and the exporter that converted it.

    ``skeleton`` is its graph without the data of the initializers in ``weights``, which are the network's own memory
    where the graph takes a tensor as it is. ``fallback`` is why it is not dynamo's graph, empty where it is.
    """

    skeleton: onnx.ModelProto
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    fallback: str = ""

    @property
    def model(self) -> onnx.ModelProto:
        """The graph with all of its data, as a copy."""
        model = onnx.ModelProto()
        model.CopyFrom(self.skeleton)
        for tensor in model.graph.initializer:
            if tensor.name in self.weights:
                tensor.raw_data = self.weights[tensor.name].tobytes()
        return model

    @property
    def exporter(self) -> Literal["dynamo", "legacy"]:
        """The exporter of torch.onnx."""
        return "legacy" if self.fallback else "dynamo"

    @property
    def shapes(self) -> dict[str, tuple[int | str, ...]]:
        """The dimensions of the outputs by name: lengths, or names."""
        return {value.name: _shape(value) for value in self.skeleton.graph.output}


def to_onnx(
    network: nn.Module,
    example: Mapping[str, torch.Tensor],
    *,
    outputs: Sequence[str],
    dimensions: Dimensions,
    validation_inputs: Sequence[Mapping[str, torch.Tensor]] = (),
    opset: int | None = None,
) -> ConvertedNetwork:
    """Return ``network`` as ONNX, with ``dimensions`` dynamic.

    Inputs go by position. ``example`` has a batch of 2 or more, because torch specializes a dimension of length 1. The
    legacy exporter is tried where dynamo fails, or gives a graph whose outputs for ``validation_inputs`` differ from
    eager's: dynamo fixes the length of some recurrent networks without an error. Either result has to pass the same
    parity check. ``opset`` is torch's own unless it is given, and the IR version is then the lowest that has it.
    Raises ConversionError when both fail, and where the forward branches on values of its input: dynamo
    refuses such branches, the legacy exporter keeps the one that the example took.
    """
    check_branches(network, example)
    try:
        converted = _dynamo(network, example, outputs, dimensions, opset)
        _validate(converted, network, validation_inputs)
        return converted
    except Exception as error:  # torch.onnx raises whatever its passes raise
        failure = error
    try:
        reads = traced_reads(network, tuple(example.values()))
        if not reads:
            model = _finish(_legacy(network, example, outputs, dimensions, opset), opset)
            converted = ConvertedNetwork(skeleton=model, fallback=reason_of(failure))
            _validate(converted, network, validation_inputs)
            return converted
    except Exception as error:
        if compiled := compiled_modules(network):
            raise ConversionError(
                f"'{name_of(network)}': torch.onnx cannot follow what torch.jit compiled: {listed(compiled, 3)}. Build "
                "it of the Python classes, without torch.jit.script and torch.jit.trace: the state dict stays the same."
            ) from failure
        raise ConversionError(
            f"'{name_of(network)}': torch.onnx cannot export it: {reason_of(failure)} "
            f"(legacy exporter: {reason_of(error)}). {remedy_of(failure, error)}"
        ) from failure
    raise reads[0].refusal(network)


@dataclass(frozen=True, kw_only=True)
class TracedProgram:
    """A network as dynamo converts it: a program of torch operators, and the same as ONNX.

    The values of ``model`` have the names of the nodes of ``program`` that compute them, except its outputs; values of
    steps in between have names of their own.
    """

    program: torch.export.ExportedProgram
    model: onnx.ModelProto


def trace_program(
    network: nn.Module,
    example: Mapping[str, torch.Tensor],
    *,
    outputs: Sequence[str],
    dimensions: Dimensions,
    opset: int | None = None,
) -> TracedProgram:
    """Return a network's program, whose nodes have the modules and source lines that they are from.

    Raises ConversionError where dynamo cannot export it.
    """
    try:
        program = _dynamo_program(network, example, outputs, dimensions, opset)
    except Exception as error:  # torch.onnx raises whatever its passes raise
        raise ConversionError(
            f"'{name_of(network)}': torch.onnx cannot export it: {reason_of(error)}. The faulty node cannot be found."
        ) from error
    return TracedProgram(program=program.exported_program, model=_finish(program.model_proto, opset))


def _dynamo(
    network: nn.Module,
    example: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    dimensions: Dimensions,
    opset: int | None,
) -> ConvertedNetwork:
    model: ir.Model = _dynamo_program(network, example, outputs, dimensions, opset).model
    weights = _take_weights(model)
    skeleton = _finish(ir.serde.serialize_model(model), opset)
    for tensor in skeleton.graph.initializer:
        if tensor.name in weights:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return ConvertedNetwork(skeleton=skeleton, weights=weights)


def _take_weights(model: ir.Model) -> dict[str, NDArray[Any]]:
    """Return the large initializers by name; the model then declares them without data, and writing it copies none."""
    weights = {}
    for name, value in model.graph.initializers.items():
        tensor: Any = value.const_value
        if tensor is None or tensor.nbytes < _APART_BYTES:
            continue
        array = tensor.numpy()
        # What numpy lacks, such as bfloat16 or values of four bits, is left to the serialization.
        if array.dtype.kind in "fiub" and array.dtype.isnative and array.nbytes == tensor.nbytes:
            weights[name] = array
            value.const_value = ir.ExternalTensor(
                "", None, None, tensor.dtype, shape=tensor.shape, name=tensor.name, doc_string=tensor.doc_string
            )
    return weights


def _dynamo_program(
    network: nn.Module,
    example: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    dimensions: Dimensions,
    opset: int | None,
) -> Any:
    shapes = _dynamic_shapes(network, example, dimensions)
    with (
        _quiet(),
        convertible_attention(),
        convertible_experts(network),
        ConvertibleArithmetic(),
        small_constants_kept(),
    ):
        program = torch.onnx.export(
            network,
            tuple(example.values()),
            dynamo=True,
            input_names=list(example),
            output_names=list(outputs),
            opset_version=opset or OPSET,
            dynamic_shapes=shapes,
            external_data=False,
            optimize=True,
            verify=False,
            verbose=False,
            report=False,
            profile=False,
            dump_exported_program=False,
        )
    assert program is not None
    return program


def _dynamic_shapes(network: nn.Module, example: Mapping[str, torch.Tensor], dimensions: Dimensions) -> tuple[Any, ...]:
    """Return the dynamic dimensions by parameter of the forward: torch.export counts '*inputs' as one, a tuple."""
    names = sorted({name for axes in dimensions.values() for name in axes.values()})
    dims = {name: torch.export.Dim(name, min=1) for name in names}
    axes = [{axis: dims[name] for axis, name in dimensions.get(key, {}).items()} for key in example]
    return tuple(inspect.signature(network.forward).bind(*axes).arguments.values())


def _legacy(
    network: nn.Module,
    example: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    dimensions: Dimensions,
    opset: int | None,
) -> onnx.ModelProto:
    stream = io.BytesIO()
    with _quiet(), _packed_outputs_used(network):
        torch.onnx.export(
            network,
            tuple(example.values()),
            stream,  # type: ignore[arg-type]  # the legacy exporter also writes to streams
            dynamo=False,
            input_names=list(example),
            output_names=list(outputs),
            opset_version=opset or OPSET,
            dynamic_axes={
                **{name: dict(axes) for name, axes in dimensions.items()},
                **{name: {0: BATCH} for name in outputs},
            },
            external_data=False,
            do_constant_folding=True,
            export_params=True,
            keep_initializers_as_inputs=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            verbose=False,
        )
    return onnx.load_from_string(stream.getvalue())


def _validate(
    converted: ConvertedNetwork, network: nn.Module, validation_inputs: Sequence[Mapping[str, torch.Tensor]]
) -> None:
    """Raise ConversionError unless the graph takes all inputs, and gives about what the network gives."""
    if not validation_inputs:
        return
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_FATAL
    data = converted.model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}

    def run(inputs: Mapping[str, torch.Tensor]) -> Sequence[NDArray[Any]]:
        outputs: list[NDArray[Any]] = session.run(
            None, {name: tensor.numpy() for name, tensor in inputs.items() if name in names}
        )
        return outputs

    validate(run, network, validation_inputs, subject="its graph")


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(
        dimension.dim_param if dimension.HasField("dim_param") else dimension.dim_value
        for dimension in value.type.tensor_type.shape.dim
    )


def _finish(model: onnx.ModelProto, opset: int | None) -> onnx.ModelProto:
    model = avoid_known_faults(_without_traces(model))
    if opset is None:
        return model
    if opset_of(model) != opset:  # torch converts down from its own lowest, and keeps that where it cannot
        raise ConversionError(f"it needs opset {opset_of(model)}")
    model.ir_version = lowest_ir_version(model)
    return model


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop names of this machine and this run: stack traces with paths, the exported program, intermediate shapes."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.doc_string = model.graph.doc_string = ""
    for node in all_nodes(model):
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' progress, warnings and own deprecation: the parity check judges their graphs."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            with _without_output():
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """Drop what the exporters print: where they fail, they print whole graphs, the legacy one from C++."""
    sys.stdout.flush()
    sys.stderr.flush()
    originals = [os.dup(stream) for stream in (1, 2)]
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (1, 2):
            os.dup2(devnull, stream)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for stream, original in zip((1, 2), originals, strict=True):
            os.dup2(original, stream)
            os.close(original)
        os.close(devnull)


@contextlib.contextmanager
def _packed_outputs_used(network: nn.Module) -> Iterator[None]:
    """Make the final states of recurrent layers depend on their outputs, without a change of values.

    Concerns layers that get packed sequences: the legacy exporter crashes where a network takes their states alone
    (torch 2.14.1: vector::_M_range_check).
    """

    def use(layer: Any, inputs: tuple[Any, ...], result: Any) -> Any:
        if not inputs or not isinstance(inputs[0], PackedSequence):
            return result
        outputs, states = result
        padded, _ = pad_packed_sequence(outputs, batch_first=layer.batch_first)
        zero = 0 * padded[:1, :1, :1].sum()
        if isinstance(states, tuple):
            return outputs, tuple(state + zero for state in states)
        return outputs, states + zero

    hooks = [module.register_forward_hook(use) for module in network.modules() if isinstance(module, nn.RNNBase)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
