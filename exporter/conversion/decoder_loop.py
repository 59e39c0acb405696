"""Conversion of greedy decoders: an encoder, and a step that a Loop node repeats.

A Python loop cannot be traced: it comes out unrolled, as often as it ran on the example. So a network that decodes
has its two halves as methods beside its ``forward``::

    encode(tokens)          -> state, or a tuple of states, which the steps work on
    step(token, *states)    -> logits [batch, vocabulary], then the states for the next step

with the attributes ``start_id``, ``max_steps`` and, where it may stop earlier, ``end_id``. Its ``forward`` stays as it
is, and the artifact is compared with it.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from torch import nn
from torch.overrides import TorchFunctionMode

from exporter.conversion.network_io import Flat
from exporter.errors import ConversionError

TOKEN = "token"  # noqa: S105  # the name of an array
STATE = "state"
NEXT = "next"
STEP_LOGITS = "step_logits"

_BATCH, _LENGTH, _STEPS = "batch", "length", "steps"

_HALVES = ("encode", "step")
_NUMBERS = ("start_id", "max_steps")


@dataclass(frozen=True, kw_only=True)
class SequenceProbe:
    """A way to run an eager network on random token sequences.

    ``draw`` gives token numbers, int64 [batch, length], none of them padding; ``call`` returns what the network's
    forward returns for such, and raises ConversionError where it fails.
    """

    draw: Callable[[int, int], torch.Tensor]
    call: Callable[[torch.Tensor], Any]


@dataclass(frozen=True, kw_only=True)
class DecoderHalf:
    """One half of a decoder, ready to be converted: tensors in by position, a tuple of tensors out.

    ``dimensions`` are the names of the dynamic dimensions, by input and axis.
    """

    module: nn.Module
    example: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    dimensions: Mapping[str, Mapping[int, str]]
    probes: tuple[tuple[torch.Tensor, ...], ...]


@dataclass(frozen=True, kw_only=True)
class SteppedDecoder:
    """A network's two halves; the second is repeated at most ``max_steps`` times."""

    encoder: DecoderHalf
    step: DecoderHalf
    start_id: int
    end_id: int | None
    max_steps: int


def is_decoder(network: nn.Module) -> bool:
    """Return whether a network has the two halves of a greedy decoder."""
    return all(callable(getattr(network, name, None)) for name in _HALVES)


def check_no_python_loop(network: nn.Module, probe: SequenceProbe) -> None:
    """Raise ConversionError where a forward repeats a layer as often as its input, or a computed value, says.

    A trace repeats such a loop as often as it ran on the example. It is detected by running the eager network on
    tokens of two lengths. A loop with a fixed number of steps is no problem.
    """
    runs = [_watch(network, probe.call, probe.draw(2, length)) for length in _WATCHED]
    repeated = {name: tuple(run.calls[name] for run in runs) for name in runs[0].calls if runs[0].calls[name] > 1}
    for name, (few, many) in repeated.items():
        # One read per step; a layer may also be shared, and a mask be looked into.
        stops = few > 2 and min(run.reads for run in runs) >= few - 1
        if few == many and not stops:
            continue
        why = (
            f"'{name}' ran {few} times for {_WATCHED[0]} tokens and {many} times for {_WATCHED[1]}"
            if few != many
            else f"'{name}' ran {few} times, and whether it goes on depends on computed values"
        )
        raise ConversionError(
            f"'{type(network).__name__}': its forward decodes in a Python loop, which no exporter can follow: {why}. "
            "Give the module its two halves beside the forward: 'encode(tokens)', what is before the loop, returns the "
            "states; 'step(token, *states)', the loop's body, returns (logits, *states); and the attributes "
            "'start_id', 'max_steps' and, where it stops at one, 'end_id'. The graph then gets a Loop."
        )


def read_decoder(network: nn.Module, probe: SequenceProbe, *, name: str) -> SteppedDecoder:
    """Return the halves of a network's greedy decoder, with the dynamic dimensions that running them shows.

    ``name`` is that of the tokens. Raises ConversionError where the halves do not fit each other.
    """
    draw = probe.draw
    missing = [attribute for attribute in _NUMBERS if not isinstance(getattr(network, attribute, None), int)]
    if missing:
        raise ConversionError(
            f"'{type(network).__name__}': decodes step by step, without {' and '.join(map(repr, missing))}: expected "
            "whole numbers as attributes of the module. Set them in its __init__."
        )
    end_id = getattr(network, "end_id", None)
    encoder, step = _Encoder(network), _DecoderStep(network)
    with torch.no_grad(), _errors_named(network):
        base = _trajectory(encoder, step, draw(2, 5), int(network.start_id), steps=3)  # type: ignore[arg-type]
        others = {
            _BATCH: _trajectory(encoder, step, draw(3, 5), int(network.start_id), steps=3),  # type: ignore[arg-type]
            _LENGTH: _trajectory(encoder, step, draw(2, 9), int(network.start_id), steps=3),  # type: ignore[arg-type]
        }
    _check_step(base, network)
    states = [f"{STATE}_{number}" for number in range(len(base.states[0]))]
    dynamic = {key: _differing_axes(base.states[-1], other.states[-1]) for key, other in others.items()}
    dynamic[_STEPS] = _differing_axes(base.states[0], base.states[-1])
    return SteppedDecoder(
        encoder=DecoderHalf(
            module=Flat(encoder, (name,), whole=True),
            example={name: base.tokens},
            outputs=tuple(states),
            dimensions={name: {0: _BATCH, 1: _LENGTH}},
            probes=tuple((draw(batch, length),) for batch, length in _PROBES),
        ),
        step=DecoderHalf(
            module=Flat(step, (TOKEN, *states), whole=True),
            example=dict(zip((TOKEN, *states), (base.last, *base.states[-1]), strict=True)),
            outputs=(STEP_LOGITS, *(f"{NEXT}_{number}" for number in range(len(states)))),
            dimensions={TOKEN: {0: _BATCH}}
            | {
                state: {axis: dimension for dimension, axes in dynamic.items() for axis in axes[number]}
                for number, state in enumerate(states)
            },
            probes=tuple(
                (run.last, *run.states[step_number])
                for batch, length in _PROBES
                for run in [_trajectory(encoder, step, draw(batch, length), int(network.start_id), steps=4)]  # type: ignore[arg-type]
                for step_number in (0, 1, -1)
            ),
        ),
        start_id=int(network.start_id),  # type: ignore[arg-type]
        end_id=None if end_id is None else int(end_id),
        max_steps=int(network.max_steps),  # type: ignore[arg-type]
    )


# Lengths that a forward is watched on.
_WATCHED = (4, 9)

# Batches and lengths that both halves are run on once they are converted: 1, the traced ones, and beyond.
_PROBES = ((1, 1), (3, 2), (2, 5), (1, 13), (2, 29))


def to_loop(
    encoder: onnx.ModelProto, step: onnx.ModelProto, decoder: SteppedDecoder, *, name: str, output: str
) -> onnx.ModelProto:
    """Return one model from token numbers ``name``, int64 [batch, length], to ``output``, int64 [batch, steps].

    The step is the body of a Loop, which ends after ``max_steps``, or once every row has given ``end_id``; a row that
    has given it repeats it until the others have given it as well.
    """
    encoder, step = compose.add_prefix(encoder, "encode/"), compose.add_prefix(step, "step/")
    model = onnx.ModelProto()
    model.CopyFrom(encoder)
    graph = model.graph
    # The body sees the outer graph's constants: the weights lie there, once, where they can be external data.
    graph.initializer.extend(step.graph.initializer)
    graph.node.insert(0, helper.make_node("Identity", [name], [f"encode/{name}"]))
    constants = {
        "decode/start": np.array(decoder.start_id, np.int64),
        "decode/max_steps": np.array(decoder.max_steps, np.int64),
        "decode/false": np.array(False),
        "decode/true": np.array(True),
        "decode/zero": np.array([0], np.int64),
        "decode/one": np.array([1], np.int64),
        **({} if decoder.end_id is None else {"decode/end": np.array(decoder.end_id, np.int64)}),
    }
    graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in constants.items())
    states = [value.name for value in encoder.graph.output]
    carried = ["decode/last", "decode/was_done", *(f"decode/final_{number}" for number in range(len(states)))]
    graph.node.extend(
        [
            helper.make_node("Shape", [name], ["decode/shape"]),
            helper.make_node("Slice", ["decode/shape", "decode/zero", "decode/one"], ["decode/batch"]),
            helper.make_node("Expand", ["decode/start", "decode/batch"], ["decode/first"]),
            helper.make_node("Expand", ["decode/false", "decode/batch"], ["decode/not_done"]),
            helper.make_node(
                "Loop",
                ["decode/max_steps", "decode/true", "decode/first", "decode/not_done", *states],
                [*carried, "decode/by_step"],
                body=_body(step, decoder),
            ),
            helper.make_node("Transpose", ["decode/by_step"], [output], perm=[1, 0]),
        ]
    )
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, [_BATCH, _LENGTH]))
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.INT64, [_BATCH, _STEPS]))
    return model


def _body(step: onnx.ModelProto, decoder: SteppedDecoder) -> onnx.GraphProto:
    """Return one step: the likeliest token, the states after it, and whether to go on."""
    token, *states = step.graph.input
    logits, *following = step.graph.output
    nodes = [
        *step.graph.node,
        helper.make_node("ArgMax", [logits.name], ["decode/token"], axis=-1, keepdims=0),
    ]
    if decoder.end_id is None:
        nodes += [
            helper.make_node("Identity", ["decode/condition"], ["decode/go_on"]),
            helper.make_node("Identity", ["decode/done"], ["decode/now_done"]),
            helper.make_node("Identity", ["decode/token"], ["decode/given"]),
        ]
    else:
        nodes += [
            helper.make_node("Where", ["decode/done", "decode/end", "decode/token"], ["decode/given"]),
            helper.make_node("Equal", ["decode/given", "decode/end"], ["decode/now_done"]),
            helper.make_node("Cast", ["decode/now_done"], ["decode/done_number"], to=TensorProto.INT32),
            helper.make_node("ReduceMin", ["decode/done_number"], ["decode/all_number"], keepdims=0),
            helper.make_node("Cast", ["decode/all_number"], ["decode/all_done"], to=TensorProto.BOOL),
            helper.make_node("Not", ["decode/all_done"], ["decode/go_on"]),
        ]
    nodes.append(helper.make_node("Identity", ["decode/token"], ["decode/next_token"]))
    flags = [
        helper.make_tensor_value_info(key, TensorProto.BOOL, shape)
        for key, shape in (("decode/condition", []), ("decode/done", [_BATCH]))
    ]
    return helper.make_graph(
        nodes,
        "step",
        [
            helper.make_tensor_value_info("decode/iteration", TensorProto.INT64, []),
            flags[0],
            token,
            flags[1],
            *states,
        ],
        [
            helper.make_tensor_value_info("decode/go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("decode/next_token", TensorProto.INT64, [_BATCH]),
            helper.make_tensor_value_info("decode/now_done", TensorProto.BOOL, [_BATCH]),
            *following,
            helper.make_tensor_value_info("decode/given", TensorProto.INT64, [_BATCH]),
        ],
    )


@dataclass(kw_only=True)
class _CallRecorder(TorchFunctionMode):
    """Counts of calls of each layer that holds weights itself, and of Python's reads of computed values."""

    calls: Counter[str]
    reads: int = 0

    def __torch_function__(
        self, function: Any, _types: Any, arguments: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        # A size is a number already: only what a tensor holds counts.
        self.reads += function in (torch.Tensor.__bool__, torch.Tensor.item, torch.Tensor.tolist)
        return function(*arguments, **(options or {}))


def _watch(network: nn.Module, call: Callable[[torch.Tensor], Any], tokens: torch.Tensor) -> _CallRecorder:
    recorder = _CallRecorder(calls=Counter())

    def count(name: str) -> Callable[..., None]:
        return lambda *_: recorder.calls.update([name])

    hooks = [
        module.register_forward_pre_hook(count(name))
        for name, module in network.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with recorder:
            call(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return recorder


class _Encoder(nn.Module):
    """``encode`` as a forward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: torch.Tensor) -> Any:
        return self.network.encode(tokens)  # type: ignore[operator]


class _DecoderStep(nn.Module):
    """``step`` as a forward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, token: torch.Tensor, *states: torch.Tensor) -> Any:
        return self.network.step(token, *states)  # type: ignore[operator]


@dataclass(frozen=True, kw_only=True)
class _Trajectory:
    """A few steps of decoding: the states before each, and after the last; ``last`` is the last step's token."""

    tokens: torch.Tensor
    logits: torch.Tensor
    last: torch.Tensor
    states: tuple[tuple[torch.Tensor, ...], ...]


def _trajectory(encoder: nn.Module, step: nn.Module, tokens: torch.Tensor, start_id: int, *, steps: int) -> _Trajectory:
    states = [_as_tuple(encoder(tokens))]
    token = torch.full((len(tokens),), start_id, dtype=torch.int64)
    for _ in range(steps):
        logits, *following = step(token, *states[-1])
        token = logits.argmax(-1)
        states.append(tuple(following))
    return _Trajectory(tokens=tokens, logits=logits, last=token, states=tuple(states))


def _differing_axes(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> list[list[int]]:
    """Return the axes whose lengths differ, tensor by tensor."""
    return [
        [axis for axis, (old, new) in enumerate(zip(one.shape, other.shape, strict=True)) if old != new]
        for one, other in zip(before, after, strict=True)
    ]


def _check_step(run: _Trajectory, network: nn.Module) -> None:
    counts = {len(states) for states in run.states}
    if run.logits.ndim != 2 or len(run.logits) != len(run.tokens) or len(counts) != 1:
        raise ConversionError(
            f"'{type(network).__name__}': its step does not fit: expected logits [batch, vocabulary] and as many "
            f"states as 'encode' returns, {len(run.states[0])}, got logits {list(run.logits.shape)} and "
            f"{len(run.states[1])} states. Return (logits, *states)."
        )


@contextlib.contextmanager
def _errors_named(network: nn.Module) -> Iterator[None]:
    """Raise ConversionError that names the network in place of its own errors."""
    try:
        yield
    except Exception as error:  # the user's methods may raise anything
        raise ConversionError(
            f"'{type(network).__name__}': decoding step by step failed: {type(error).__name__}: {error}. "
            "Check 'encode(tokens)' and 'step(token, *states)'."
        ) from error


def _as_tuple(value: Any) -> tuple[torch.Tensor, ...]:
    return (value,) if isinstance(value, torch.Tensor) else tuple(value)
