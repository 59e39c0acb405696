"""HTTP responses, and what the OpenAPI document says of them: derived from the types of the results."""

from types import SimpleNamespace

import numpy as np
import pytest

from runtime.manifest import TextInput
from runtime.results import Failure, Outputs, Segmentation
from runtime.server.http.openapi import _predict_content, _result_schemas
from runtime.server.http.responses import size_of_results


def test_the_arrays_of_results_are_their_size():
    results = [
        Segmentation(input="a", label_map=np.zeros((4, 5), np.int64), shares={"cat": 1.0}),
        Outputs(input="b", outputs=[{"x": np.zeros(3, np.float32)}]),
        Failure(input="c", error="unreadable"),
    ]

    assert size_of_results(results) == 160 + 12


def test_fields_that_a_row_does_not_have_are_not_in_the_document():
    assert _result_schemas()["Estimate"]["properties"].keys() == {"input", "values"}


@pytest.mark.parametrize(
    ("pairs", "media"),
    [
        (False, {"application/json", "multipart/form-data", "text/plain"}),
        (True, {"application/json", "multipart/form-data"}),
    ],
)
def test_the_document_has_the_media_types_that_are_accepted(pairs, media):
    text = TextInput(name="t", tokenizer="tokenizer.json", arrays=("input_ids",), max_length=8, pairs=pairs)

    assert _predict_content(SimpleNamespace(inputs=(text,)), {}).keys() == media
