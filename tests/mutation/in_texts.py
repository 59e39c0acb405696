"""Faults of texts."""

import json
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
from onnx import helper

from runtime.inputs.text import decoder as text


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
