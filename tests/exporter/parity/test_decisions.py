"""Decisions: a flip is told with eager's own margin; what scores mean is said in the user's order of names."""

import numpy as np
import pytest

from exporter.outputs.registry import open_reference
from exporter.parity.decisions import decide
from runtime.manifest import Classify, Labels, Multilabel, Output, Regress, Segment, Tokens, Value
from runtime.results import interpret

LABELS = ("cat", "dog", "cow")


class Only:
    """What decisions read of a manifest."""

    def __init__(self, task):
        self.task = task
        self.outputs = (Output(name="scores", dtype="float32", shape=("batch", 3)),)


def scores(*values):
    return {"scores": np.array([values], dtype=np.float32)}


def test_an_equal_label_has_no_margin():
    found = decide(
        scores(0.2, 0.7, 0.1), scores(0.25, 0.6, 0.15), Only(Classify(labels=Labels(file="", count=3))), LABELS
    )

    assert (found.agreement, found.top_k, found.margin) == (1.0, 1.0, None)


def test_a_flip_has_the_margin_of_eager():
    found = decide(
        scores(0.5, 0.4, 0.1), scores(0.4, 0.45, 0.15), Only(Classify(labels=Labels(file="", count=3))), LABELS
    )

    assert found.agreement == 0.0
    assert (found.expected, found.got) == ("dog", "cat")
    assert found.margin == pytest.approx(0.05)


def test_another_set_of_the_best_is_told():
    found = decide(
        scores(0.5, 0.1, 0.4), scores(0.5, 0.4, 0.1), Only(Classify(labels=Labels(file="", count=3))), LABELS
    )

    assert (found.agreement, found.top_k) == (1.0, 0.0)


def test_a_class_that_crosses_its_threshold_is_a_flip():
    task = Multilabel(labels=Labels(file="", count=3), thresholds=(0.5, 0.9, 0.5))
    found = decide(scores(0.6, 0.91, 0.1), scores(0.6, 0.88, 0.1), Only(task), LABELS)

    assert found.agreement == pytest.approx(2 / 3)
    assert (found.expected, found.got) == ("dog below", "dog above")
    assert found.margin == pytest.approx(0.02, abs=1e-6)


def test_a_map_is_compared_place_by_place_with_scores_or_with_a_map():
    task = Segment(labels=Labels(file="", count=3), colors=((0, 0, 0),) * 3)
    eager = np.zeros((1, 3, 2, 2), dtype=np.float32)
    eager[:, 1] = 0.5
    other = eager.copy()
    other[0, 2, 1, 1] = 0.6
    for actual in (other, np.argmax(other, axis=1)):
        found = decide({"scores": actual}, {"scores": eager}, Only(task), LABELS)
        assert found.agreement == 0.75
        assert (found.expected, found.got) == ("dog", "cow")


def test_numbers_decide_nothing():
    assert decide(scores(1, 2, 3), scores(1, 2, 3), Only(Regress(values=(Value(name="x"),) * 3)), ()) is None


@pytest.mark.parametrize(
    ("task", "outputs", "labels"),
    [
        (Classify(labels=Labels(file="", count=3)), scores(0.2, 0.7, 0.1), LABELS),
        (Multilabel(labels=Labels(file="", count=3), thresholds=(0.5,) * 3), scores(0.6, 0.5, 0.1), LABELS),
        (Regress(values=tuple(Value(name=name) for name in "xyz")), scores(1.5, -2, 3), ()),
        (
            Segment(labels=Labels(file="", count=3), colors=((0, 0, 0),) * 3),
            {"scores": np.eye(3, dtype=np.float32)[None, :, :2, None]},
            LABELS,
        ),
        (Tokens(end_id=0), {"scores": np.array([[2, 1, 0, 2]])}, LABELS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_runtime_says_what_scores_mean_and_other_names_are_seen(task, outputs, labels):
    result = interpret(task, outputs["scores"][0], labels, name="input", top_k=5, threshold=None)
    expected = open_reference(task, labels).expected_result(outputs)

    said = result.to_arrays()
    assert said.keys() == expected.keys()
    for name, array in said.items():
        assert np.array_equal(array, expected[name])
    if labels:
        shifted = open_reference(task, labels[1:] + labels[:1]).expected_result(outputs)
        assert any(not np.array_equal(said[name], shifted[name]) for name in said)
