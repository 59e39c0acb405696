"""The interval of an agreement, and the comparison of scores."""

import numpy as np
import pytest

from exporter.precision.scores import compare_scores, share_interval
from runtime.artifact.open import open_artifact


@pytest.mark.parametrize(("equal", "inputs"), [(100, 100), (99, 100), (0, 10), (5, 10), (3990, 4096)])
def test_the_interval_is_that_of_clopper_and_pearson(equal, inputs):
    stats = pytest.importorskip("scipy.stats")
    exact = stats.binomtest(equal, inputs).proportion_ci(0.95, method="exact")

    assert share_interval(equal, inputs) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_flips_have_the_margin_that_fp32_had(tiny):
    manifest = open_artifact(tiny).manifest
    full = [np.array([[0.5, 0.3, 0.1, 0.1]], np.float32), np.array([[0.4, 0.35, 0.15, 0.1]], np.float32)]
    own = [full[0], np.array([[0.3, 0.45, 0.15, 0.1]], np.float32)]

    compared = compare_scores(*([{"probabilities": array} for array in arrays] for arrays in (full, own)), manifest)

    assert (compared.flipped, compared.share) == ((1,), 0.5)
    assert compared.margins == pytest.approx([0.05])
    assert compared.decisions == (("0", "1"),)
    assert compared.largest == pytest.approx(0.1)
    assert compared.mean == pytest.approx(0.2 / 8)
