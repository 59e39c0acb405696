"""Differences of arrays: faults of form before values, limits of each tensor's own, and what a row says of them."""

import numpy as np
import pytest
import torch
from torch import nn

from exporter.conversion.to_torchscript import script
from exporter.parity.array_diff import DifferenceTally, RowKey, Tolerance, measure_difference, signal_of
from runtime.evidence import HISTOGRAM_EDGES, Noise


def noise(tensor, floor):
    return Noise(
        tensor=tensor,
        stage="end to end",
        size=1.0,
        signal=1.0,
        precision=floor,
        threads=None,
        batch=None,
        floor=floor,
        limit=10 * floor,
    )


def arrays(*values, dtype=np.float32):
    return {"scores": np.array([values], dtype=dtype)}


TOLERANCE = Tolerance(unit="probability", noise={"scores": noise("scores", 1e-6)})


@pytest.mark.parametrize(
    ("actual", "fault"),
    [
        ({"other": np.zeros((1, 2), np.float32)}, "names"),
        ({**arrays(0, 1), "more": np.zeros(1)}, "names"),
        (arrays(0, 1, 2), "shape"),
        (arrays(0, 1, dtype=np.float64), "dtype"),
        (arrays(0, np.nan), "non-finite"),
        (arrays(np.inf, 1), "non-finite"),
    ],
)
def test_a_wrong_form_is_a_fault_of_its_own(actual, fault):
    assert measure_difference(actual, arrays(0, 1), TOLERANCE).fault == fault


def test_nan_and_infinity_where_eager_has_them_are_equal():
    found = measure_difference(arrays(np.nan, np.inf, -np.inf), arrays(np.nan, np.inf, -np.inf), TOLERANCE)

    assert found.fault is None
    assert not found.values.any()


def test_a_finite_number_where_eager_has_none_is_no_rounding():
    found = measure_difference(arrays(1.0, 1.0), arrays(np.nan, np.inf), TOLERANCE)

    assert np.isinf(found.values).all()


def test_every_tensor_has_its_own_limit():
    """A difference of 1e-5 is nothing among thousands, and a fault among millionths."""
    tolerance = Tolerance(
        unit="", noise={"large": noise("large", 1e-3), "small": noise("small", 1e-7), "whole": noise("whole", 0)}
    )
    eager = {"large": np.array([5e3]), "small": np.array([1e-3]), "whole": np.array([3.0])}

    found = measure_difference({**eager, "large": eager["large"] + 1e-5}, eager, tolerance)
    assert found.values.max() < tolerance.limit
    found = measure_difference({**eager, "small": eager["small"] + 1e-5}, eager, tolerance)
    assert found.values.max() > tolerance.limit
    found = measure_difference({**eager, "whole": eager["whole"] + 1}, eager, tolerance)
    assert np.isinf(found.values.max())


def test_words_are_equal_or_not():
    one = {"label": np.array(["cat", "dog"], dtype=object)}
    other = {"label": np.array(["cat", "cow"], dtype=object)}

    assert measure_difference(one, other, Tolerance(unit="labels")).values.tolist() == [0.0, 1.0]


def tally_of_outputs():
    key = RowKey(path="model.onnx", device="cpu", stage="network", group="generated", compared="outputs")
    return DifferenceTally(key, TOLERANCE)


def row_of(*pairs):
    tally = tally_of_outputs()
    for index, (actual, expected) in enumerate(pairs):
        tally.add(
            f"input {index}", lambda actual=actual, expected=expected: measure_difference(actual, expected, TOLERANCE)
        )
    return tally.row()


def test_a_row_has_the_worst_input_and_counts_values_by_their_multiple_of_the_floor():
    row = row_of((arrays(0, 1), arrays(0, 1)), (arrays(0.5, 0.5 + 2e-6), arrays(0.5, 0.5)))

    assert row.passed
    assert row.worst_input == "input 1"
    assert row.ratio == pytest.approx(2, rel=0.05)
    assert row.share == 0.25
    assert len(row.histogram) == len(HISTOGRAM_EDGES) + 2
    assert row.histogram[0] == 3
    assert row.histogram[2 + HISTOGRAM_EDGES.index(1.0)] == 1


def test_more_than_the_limit_is_a_fault_that_says_how_much():
    row = row_of((arrays(0, 1), arrays(0, 1.001)))

    assert row.fault == "value"
    assert row.finding == (
        "outputs: expected at most 1.0e-05 probability from eager's, got 0.001 probability off; 1 of 1 inputs are"
    )


def test_a_path_that_raises_is_a_fault_and_the_inputs_that_ran_are_counted():
    tally = tally_of_outputs()
    tally.add("good", lambda: measure_difference(arrays(1), arrays(1), TOLERANCE))
    tally.add("bad", lambda: 1 / 0)
    row = tally.row()

    assert row.fault == "error"
    assert (row.planned, row.inputs, row.worst_input) == (2, 1, "bad")
    assert "ZeroDivisionError" in row.finding


def test_a_form_fault_comes_before_values():
    row = row_of((arrays(5, 5), arrays(0, 1)), (arrays(1), arrays(0, 1)))

    assert row.fault == "shape"
    assert row.worst_input == "input 1"


def test_signal_is_what_varies_from_case_to_case():
    assert signal_of([np.array([1.0, 5.0]), np.array([1.0, 5.0])]) == 0
    assert signal_of([np.array([1.0, 5.0]), np.array([1.5, 5.0, 9.0])]) == 0.5


def test_an_error_of_torchscript_is_its_cause_and_not_its_code():
    class Failing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(7)

    network, tally = script(Failing()), tally_of_outputs()
    tally.add("bad", lambda: network(torch.zeros(3)))

    assert tally.row().finding.endswith("RuntimeError: shape '[7]' is invalid for input of size 3")
    assert "Traceback" not in tally.row().finding
