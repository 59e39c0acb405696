"""How a forward takes its parts: by keyword, by position, in dictionaries."""

import pytest
import torch
from torch import Tensor, nn

from exporter.errors import ExportError
from exporter.inputs.composite.arguments import by_parts

ONE_EACH = {"photo": ("normalized",), "row": ("features",)}
PHOTO, ROW, IDS, MASK = (torch.full((1, 2), value) for value in (1.0, 2.0, 3.0, 4.0))


def network(forward):
    module = nn.Module()
    module.forward = forward
    return module


def test_a_part_of_one_tensor_is_the_argument_of_its_name_in_any_order():
    def forward(row: Tensor, photo: Tensor) -> tuple:
        return row, photo

    assert by_parts(network(forward), ONE_EACH)(PHOTO, ROW) == (ROW, PHOTO)


def test_arguments_of_other_names_take_the_parts_in_their_order():
    assert by_parts(network(lambda x, y: (x, y)), ONE_EACH)(PHOTO, ROW) == (PHOTO, ROW)
    assert by_parts(network(lambda *inputs: inputs), ONE_EACH)(PHOTO, ROW) == (PHOTO, ROW)


def test_a_forward_of_one_argument_takes_a_dictionary_of_all_parts():
    parts = {"photo": ("normalized",), "text": ("input_ids", "attention_mask")}

    taken = by_parts(network(lambda batch: batch), parts)(PHOTO, IDS, MASK)

    assert taken == {"photo": PHOTO, "text": {"input_ids": IDS, "attention_mask": MASK}}


@pytest.mark.parametrize(
    "forward",
    [
        lambda input_ids, attention_mask, row: (input_ids, attention_mask, row),
        lambda text_input_ids, text_attention_mask, row: (text_input_ids, text_attention_mask, row),
        lambda text, row: (text["input_ids"], text["attention_mask"], row),
    ],
)
def test_the_tensors_of_a_text_are_arguments_of_their_own_or_one_dictionary(forward):
    parts = {"text": ("input_ids", "attention_mask"), "row": ("features",)}

    assert by_parts(network(forward), parts)(IDS, MASK, ROW) == (IDS, MASK, ROW)


def test_a_forward_of_other_parameters_is_refused_with_their_names():
    with pytest.raises(ExportError, match="has other parameters: expected 'photo', 'meta', 'more', got 'photo', 'row'"):
        by_parts(network(lambda photo, meta, more: photo), ONE_EACH)
