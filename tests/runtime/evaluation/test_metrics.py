"""Metrics of a model on labeled data."""

from types import SimpleNamespace

import pytest

import runtime
from runtime.evaluation.metrics import score
from runtime.manifest import Raw


def test_a_task_without_a_truth_is_named_before_the_data_is_read():
    model = SimpleNamespace(manifest=SimpleNamespace(task=Raw(structure=None), name="net"))

    def unread():
        raise AssertionError
        yield

    with pytest.raises(runtime.InputError, match=r"'net': cannot be evaluated: expected a task of .* got raw"):
        score(model, unread())
