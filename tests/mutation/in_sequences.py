"""Faults of token sequences and arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from mutation.planting import (
    Planting,
    add_constants,
    change_constant,
    fault,
    insert_after,
    nodes_of,
    set_attribute,
)
from onnx import TensorProto, helper

from runtime.inputs.tokens import decoder as tokens


def cut_input(model: onnx.ModelProto, *, axis: int, length: int) -> None:
    """Drop what of the graph's first input lies beyond ``length``, as a fixed buffer does."""
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["within the buffer" if one == name else one for one in node.input]
    add_constants(model, none=np.array([0]), buffer=np.array([length]), along=np.array([axis]))
    model.graph.node.insert(0, helper.make_node("Slice", [name, "none", "buffer", "along"], ["within the buffer"]))


# --- token sequences ---


@fault("network", subject="tokens")
def divided_by_the_traced_length(planting: Planting) -> None:
    """A mean over the tokens was traced as a sum by 7: right for seven tokens."""

    def change(model: onnx.ModelProto) -> None:
        add_constants(model, traced_count=np.full((1, 1), 7.0, np.float32))
        (node,) = nodes_of(model, "Div")
        node.input[1] = "traced_count"

    planting.converted(change)


@fault("tokens", "end to end", subject="tokens")
def mask_beside_tokens_of_ones(planting: Planting) -> None:
    """The host makes a mask of ones for a padded batch."""
    make = tokens.derived_inputs

    def ones(kinds: Any, lengths: Sequence[int]) -> dict[str, Any]:
        found = make(kinds, lengths)
        return {name: np.ones_like(array) for name, array in found.items()}

    planting.host(tokens, "derived_inputs", ones)


@fault("tokens", "end to end", subject="tokens")
def tokens_read_backwards(planting: Planting) -> None:
    """A sequence is reversed for a decoder, and the classifier gets the reversed one as well."""
    prepare = tokens.TokensDecoder.prepare
    planting.host(tokens.TokensDecoder, "prepare", lambda decoder, found: prepare(decoder, found)[::-1].copy())


@fault("network", subject="tokens, recurrent")
def read_in_reverse(planting: Planting) -> None:
    """The recurrent layer's direction attribute."""
    planting.converted(lambda model: set_attribute(nodes_of(model, "GRU")[0], "direction", "reverse"))


@fault("network", subject="tokens, recurrent")
def reset_gate_after_the_product(planting: Planting) -> None:
    """torch and cuDNN apply the GRU's reset gate after the matrix product, the paper and older Keras before."""
    planting.converted(lambda model: set_attribute(nodes_of(model, "GRU")[0], "linear_before_reset", 0))


@fault("network", subject="tokens, recurrent")
def gates_in_another_order(planting: Planting) -> None:
    """torch stores reset, update, new; ONNX and Keras update, reset, hidden."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = nodes_of(model, "GRU")
        change_constant(
            model, node.input[1], lambda array: np.concatenate([array[:, 12:24], array[:, :12], array[:, 24:]], 1)
        )

    planting.converted(change)


@fault("network", subject="tokens to tokens")
def one_step_too_few(planting: Planting) -> None:
    """The loop's bound is exclusive on the one side."""
    planting.converted(lambda model: change_constant(model, "decode/max_steps", lambda array: array - 1))


@fault("network", subject="tokens to tokens")
def another_start_token(planting: Planting) -> None:
    """Decoding starts with padding, as in T5, not with the start token."""
    planting.converted(lambda model: change_constant(model, "decode/start", np.zeros_like))


@fault("network", subject="tokens, recurrent")
def read_up_to_five_hundred_tokens(planting: Planting) -> None:
    """An export for another runtime has a fixed buffer of 500 tokens: what comes after them is dropped in silence."""
    planting.converted(lambda model: cut_input(model, axis=1, length=500))


# --- arrays ---


@fault("network", subject="series, two outputs")
def outputs_swapped(planting: Planting) -> None:
    """A dictionary's outputs in alphabetical order under the names of another: both have one shape."""

    def change(model: onnx.ModelProto) -> None:
        first, second = (node for node in model.graph.node if node.op_type == "Identity")
        first.input[0], second.input[0] = second.input[0], first.input[0]

    planting.assembled(change)


@fault("network", subject="series, two outputs")
def maximum_over_the_wrong_axis(planting: Planting) -> None:
    """max over the channels where time is meant, broadcast to the shape that the next layer takes."""

    def change(model: onnx.ModelProto) -> None:
        node = nodes_of(model, "ReduceMax")[0]
        add_constants(model, channels=np.array([1]), eight=np.array([1, 8]), last=np.array([2]))
        output = node.output[0]
        node.CopyFrom(helper.make_node("ReduceMax", [node.input[0], "channels"], ["of channels"], keepdims=1))
        place = list(model.graph.node).index(node)
        model.graph.node.insert(place + 1, helper.make_node("ReduceMean", ["of channels", "last"], ["one"], keepdims=0))
        model.graph.node.insert(place + 2, helper.make_node("Expand", ["one", "eight"], [output]))

    planting.converted(change)


@fault("network", subject="series, two outputs")
def mean_of_the_traced_length(planting: Planting) -> None:
    """A mean over time was traced as a sum by the example's length."""

    def change(model: onnx.ModelProto) -> None:
        (mean,) = nodes_of(model, "ReduceMean")
        add_constants(model, traced=np.float32(96.0))
        mean.op_type = "ReduceSum"
        insert_after(
            model, mean.output[0], lambda given, wanted: [helper.make_node("Div", [given, "traced"], [wanted])]
        )

    planting.converted(change)


@fault("network", subject="series, two outputs")
def inputs_in_half_precision(planting: Planting) -> None:
    """The client sends float16 to save bandwidth, and the server takes it."""

    def change(model: onnx.ModelProto) -> None:
        first = nodes_of(model, "Conv")[0]
        model.graph.node.insert(0, helper.make_node("Cast", [first.input[0]], ["half"], to=TensorProto.FLOAT16))
        model.graph.node.insert(1, helper.make_node("Cast", ["half"], ["whole"], to=TensorProto.FLOAT))
        first.input[0] = "whole"

    planting.converted(change)


@fault("network", subject="series, two outputs")
def read_up_to_five_hundred_steps(planting: Planting) -> None:
    """The buffer of a device holds 500 time steps, and a longer series is cut off at its end."""
    planting.converted(lambda model: cut_input(model, axis=2, length=500))
