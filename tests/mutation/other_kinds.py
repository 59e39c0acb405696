"""Faults of rows, texts, token sequences and arrays."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
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

from runtime.inputs.tabular import decoder as rows
from runtime.inputs.text import decoder as text
from runtime.inputs.tokens import decoder as tokens

# --- rows ---


def node_named(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """Return one node by its name."""
    (node,) = [node for node in model.graph.node if node.name == name]
    return node


@fault("arithmetic", subject="row")
def columns_swapped(planting: Planting) -> None:
    """Two columns of numbers change places: a CSV with another order, read by position."""

    def change(model: onnx.ModelProto) -> None:
        node = node_named(model, "columns/Concat")
        salary, age, debt = node.input
        node.input[:] = [salary, debt, age]

    planting.assembled(change)


@fault("arithmetic", subject="row")
def features_in_another_order(planting: Planting) -> None:
    """The words' features come first, where training had them last."""

    def change(model: onnx.ModelProto) -> None:
        node = node_named(model, "columns/Concat1")
        node.input[:] = list(reversed(node.input))

    planting.assembled(change)


@fault("arithmetic", subject="row")
def empty_cells_as_zero(planting: Planting) -> None:
    """fillna(0) in the service, the mean in training."""
    planting.assembled(lambda model: change_constant(model, "columns/constant", np.zeros_like))


@fault("arithmetic", subject="row")
def empty_words_as_another(planting: Planting) -> None:
    """The most frequent word of today's table, not of training's."""
    planting.assembled(
        lambda model: change_constant(model, "columns/texts1", lambda _: np.array([["Bern"]], dtype=object))
    )


@fault("arithmetic", subject="row")
def numbers_in_float32(planting: Planting) -> None:
    """Salaries around a million with a deviation of 3 lose their digits before they are scaled."""

    def cast(given: str, wanted: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Cast", [given], ["columns/short"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["columns/short"], [wanted], to=TensorProto.DOUBLE),
        ]

    planting.assembled(lambda model: insert_after(model, "columns/merged_columns", cast))


@fault("arithmetic", subject="row")
def deviation_of_the_sample(planting: Planting) -> None:
    """pandas' std() divides by n - 1, scikit-learn's scaler by n."""
    planting.assembled(
        lambda model: change_constant(model, "columns/Di_Divcst", lambda array: array * math.sqrt(200 / 199))
    )


@fault("arithmetic", subject="row")
def mean_not_subtracted(planting: Planting) -> None:
    """StandardScaler(with_mean=False) in the rewritten pipeline, for a column whose mean is not far from zero."""

    def change(array: Any) -> Any:
        array[1:] = 0.0
        return array

    planting.assembled(lambda model: change_constant(model, "columns/Su_Subcst", change))


@fault("arithmetic", subject="row")
def words_in_order_of_frequency(planting: Planting) -> None:
    """The one-hot columns of pandas' value_counts, not of scikit-learn's sorted categories."""
    planting.assembled(
        lambda model: set_attribute(nodes_of(model, "LabelEncoder")[0], "keys_strings", ["Oslo", "Rome", "Bern"])
    )


@fault("arithmetic", subject="row")
def unknown_word_as_the_first(planting: Planting) -> None:
    """A lookup's default of 0 makes every unknown city Bern; training ignored unknown ones."""
    planting.assembled(lambda model: set_attribute(nodes_of(model, "LabelEncoder")[0], "default_int64", 0))


@fault("decode", "arithmetic", "end to end", subject="row")
def words_in_lower_case(planting: Planting) -> None:
    """The service's input schema lower-cases strings, and no city is known any more."""
    read = rows.TabularDecoder._string

    def lowered(decoder: Any, column: Any, value: Any, subject: str) -> str:
        return read(decoder, column, value, subject).lower()

    planting.host(rows.TabularDecoder, "_string", lowered)


@fault("decode", "arithmetic", "end to end", subject="row")
def empty_cells_read_as_zero(planting: Planting) -> None:
    """The reader turns empty cells into 0 before the imputer sees them."""
    read = rows.TabularDecoder._value

    def zero(decoder: Any, column: Any, value: Any, subject: str) -> Any:
        found = read(decoder, column, value, subject)
        return 0.0 if isinstance(found, float) and math.isnan(found) else found

    planting.host(rows.TabularDecoder, "_value", zero)


# --- texts ---


def tokenizer(planting: Planting, change: Callable[[dict[str, Any]], None]) -> None:
    """Carry another tokenizer than training's."""

    def changed(data: bytes) -> bytes:
        found = json.loads(data)
        change(found)
        return json.dumps(found).encode()

    planting.written("tokenizer.json", changed)


@fault("tokens", subject="text")
def case_kept(planting: Planting) -> None:
    """A cased tokenizer for an uncased model: every capital is an unknown word."""
    tokenizer(planting, lambda found: found.update(normalizer=None))


@fault("tokens", subject="text")
def accents_stripped(planting: Planting) -> None:
    """BertTokenizer strips accents when it lower-cases, this model's did not."""
    kept = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}
    tokenizer(planting, lambda found: found.update(normalizer=kept))


@fault("tokens", subject="text")
def special_tokens_left_out(planting: Planting) -> None:
    """add_special_tokens=False: no [CLS], no [SEP]."""
    tokenizer(planting, lambda found: found.update(post_processor=None))


@fault("tokens", subject="text")
def cut_at_the_start(planting: Planting) -> None:
    """truncation_side='left' keeps a long text's end where training kept its start."""
    tokenizer(planting, lambda found: found["truncation"].update(direction="Left"))


@fault("tokens", subject="text")
def cut_at_another_length(planting: Planting) -> None:
    """The tokenizer's default length, not the one that training cut to."""
    tokenizer(planting, lambda found: found["truncation"].update(max_length=32))


@fault("tokens", subject="text")
def vocabulary_shifted_by_one(planting: Planting) -> None:
    """A token was added at the front of the vocabulary after training."""

    def shift(found: dict[str, Any]) -> None:
        words = found["model"]["vocab"]
        found["model"]["vocab"] = {word: number + (4 <= number < len(words) - 1) for word, number in words.items()}

    tokenizer(planting, shift)


@fault("tokens", subject="text")
def words_split_at_blanks_alone(planting: Planting) -> None:
    """str.split() for BERT's splitting at punctuation."""
    tokenizer(planting, lambda found: found.update(pre_tokenizer={"type": "WhitespaceSplit"}))


@fault("tokens", subject="pair of texts")
def both_texts_as_the_first(planting: Planting) -> None:
    """token_type_ids are left at zero, which many exported graphs take without a complaint."""
    stack = text.TextDecoder.stack

    def zeros(decoder: Any, prepared: Sequence[Any]) -> dict[str, Any]:
        arrays = stack(decoder, prepared)
        return {**arrays, "token_type_ids": np.zeros_like(arrays["token_type_ids"])}

    planting.host(text.TextDecoder, "stack", zeros)


@fault("tokens", subject="pair of texts")
def texts_of_a_pair_swapped(planting: Planting) -> None:
    """(question, answer) is sent as (answer, question)."""
    read = text.TextDecoder._texts
    planting.host(text.TextDecoder, "_texts", lambda decoder, source, subject: read(decoder, source, subject)[::-1])


@fault("tokens", "end to end", subject="text")
def padding_mask_of_ones(planting: Planting) -> None:
    """The service pads a batch and sends a mask of ones: short texts get other answers beside long ones."""
    stack = text.TextDecoder.stack

    def ones(decoder: Any, prepared: Sequence[Any]) -> dict[str, Any]:
        arrays = stack(decoder, prepared)
        return {**arrays, "attention_mask": np.ones_like(arrays["attention_mask"])}

    planting.host(text.TextDecoder, "stack", ones)


@fault("tokens", "end to end", subject="text")
def padded_on_the_left(planting: Planting) -> None:
    """The generation model's padding side for the classifier: places are counted from the padding on."""
    planting.manifest(
        lambda manifest: msgspec.structs.replace(
            manifest,
            inputs=(msgspec.structs.replace(manifest.inputs[0], padding_side="left"),),
        )
    )


@fault("network", "end to end", subject="text")
def padding_mask_ignored_in_the_graph(planting: Planting) -> None:
    """A trace without padding folded the mask away: attention looks at padding, in batches only."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = nodes_of(model, "Where")
        node.CopyFrom(helper.make_node("Identity", [node.input[2]], list(node.output)))

    planting.converted(change)


@fault("network", "end to end", subject="text")
def padding_masked_too_little(planting: Planting) -> None:
    """Masked scores are lowered by 1, as a mask of zeros and ones that is added does, not by infinity."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = nodes_of(model, "Where")
        change_constant(model, node.input[1], lambda array: np.full_like(array, -1.0))

    planting.converted(change)


@fault("network", subject="text")
def places_counted_from_one(planting: Planting) -> None:
    """RoBERTa's places begin behind the padding's, BERT's at zero."""

    def change(model: onnx.ModelProto) -> None:
        add_constants(model, first_place=np.array(1))
        insert_after(model, "arange", lambda given, wanted: [helper.make_node("Add", [given, "first_place"], [wanted])])

    planting.converted(change)


@fault("network", subject="text")
def attention_over_the_wrong_axis(planting: Planting) -> None:
    """softmax(dim=1) of scores [batch, from, to]: each token's weights are over who looks at it."""
    planting.converted(lambda model: set_attribute(nodes_of(model, "Softmax")[0], "axis", 1))


@fault("network", subject="text")
def places_of_the_traced_length(planting: Planting) -> None:
    """torch.arange(len) of the example is a constant of the graph: shorter and longer texts fail or are misplaced."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = nodes_of(model, "Range")
        add_constants(model, traced_length=np.arange(7))
        node.CopyFrom(helper.make_node("Identity", ["traced_length"], list(node.output)))

    planting.converted(change)


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
    """A sequence is reversed for a decoder, and the classifier gets it, too."""
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
