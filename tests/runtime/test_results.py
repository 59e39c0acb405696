"""What results of all tasks have in common, and failures."""

import copy
from typing import get_args

import numpy as np
import pytest

import runtime
from runtime.manifest import (
    Classify,
    Head,
    Heads,
    Labels,
    Multilabel,
    Raw,
    Regress,
    Segment,
    TensorLeaf,
    Tokens,
    Value,
    Words,
)
from runtime.outputs.parts import to_parts
from runtime.outputs.registry import INTERPRETERS, open_interpreter
from runtime.results import Answer, Failure, Result, interpret
from runtime.server.http.openapi import _result_schemas

LABELS = Labels(file="labels.txt", count=2)
SCORES = np.array([0.25, 0.75], dtype=np.float32)
PET = Head(name="pet", output="y", start=0, stop=2, task=Classify(labels=LABELS))
TASKS = {
    "classify": (Classify(labels=LABELS), SCORES),
    "multilabel": (Multilabel(labels=LABELS, thresholds=(0.5, 0.5)), SCORES),
    "regress": (Regress(values=(Value(name="height", unit="m"), Value(name="width"))), SCORES),
    "segment": (Segment(labels=LABELS, colors=((0, 0, 0), (9, 9, 9))), SCORES[:, None, None]),
    "tokens": (Tokens(end_id=0), np.array([1, 1, 0, 1])),
    "words": (Words(labels=LABELS), {"scores": SCORES[None], **to_parts(["cats"], [(0, 2, 6)])}),
    "heads": (Heads(heads=(PET,), labels=LABELS), {"pet": SCORES}),
    "raw": (Raw(structure=TensorLeaf(output="y")), {"y": SCORES}),
}


def test_every_task_of_the_manifest_has_an_interpreter_and_its_result_is_public():
    assert {task.__struct_config__.tag for task in INTERPRETERS} == TASKS.keys()
    results = {open_interpreter(task).result_type for task, _ in TASKS.values()}
    assert results == set(get_args(Answer)) == {getattr(runtime, result.__name__) for result in results}


@pytest.mark.parametrize("name", TASKS)
def test_a_result_is_of_the_type_of_its_task_and_names_its_input(name):
    task, scores = TASKS[name]

    result = interpret(task, scores, ("cat", "dog"), name="x.png", top_k=5, threshold=None)

    assert type(result) is open_interpreter(task).result_type
    assert result.to_dict()["input"] == "x.png"
    assert str(result).startswith("x.png: ")


@pytest.mark.parametrize("name", TASKS)
def test_a_row_has_what_the_published_schema_requires_and_nothing_else(name):
    task, scores = TASKS[name]
    schema = _result_schemas()[open_interpreter(task).result_type.__name__]

    row = interpret(task, scores, ("cat", "dog"), name="x.png", top_k=5, threshold=None).to_dict()

    assert set(schema["required"]) <= row.keys() <= schema["properties"].keys()


@pytest.mark.parametrize("name", TASKS)
def test_a_result_is_short_and_escaped_where_notebooks_show_it(name):
    task, scores = TASKS[name]
    result = interpret(task, scores, ("<cat>", "dog" * 500), name="<b>" * 200, top_k=5, threshold=None)

    html = result._repr_html_()

    assert len(repr(result)) < 400
    assert repr(result).startswith(f"<{type(result).__name__} of ")
    assert html.startswith(f"<p>{type(result).__name__}</p><table>")
    assert len(html) < 5000
    assert "<b>" not in html
    assert "<cat>" not in html
    assert "://" not in html


def test_a_failure_is_shown_in_notebooks_as_well():
    assert "<td>no &lt;cat&gt;</td>" in Failure(input="x.png", error="no <cat>")._repr_html_()


@pytest.mark.parametrize("name", ["classify", "multilabel", "regress"])
def test_scores_that_are_not_finite_are_a_failure(name):
    task, _ = TASKS[name]

    result = interpret(task, np.array([np.nan, 1.0]), ("cat", "dog"), name="x.png", top_k=5, threshold=None)

    assert isinstance(result, Failure)
    assert "'x.png': no result: expected finite scores" in result.error


@pytest.mark.parametrize(
    "field", sorted({field for result in get_args(Answer) for field in result.__struct_fields__} - {"input"})
)
def test_no_prediction_can_be_read_from_a_failure(field):
    failure = Failure(input="x.png", error="'x.png': not an image.")

    with pytest.raises(runtime.InputError, match="not an image"):
        getattr(failure, field)


def test_a_failure_has_no_attributes_beside_those_of_results_and_can_be_copied():
    failure: Result = Failure(input="x.png", error="'x.png': not an image.")

    assert not hasattr(failure, "lable")
    assert copy.copy(failure) == copy.deepcopy(failure) == failure
