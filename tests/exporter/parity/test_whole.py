"""Things that are compared whole: what the user states and what an artifact says, value by value."""

import pytest

from exporter.parity.whole import check_lengths, describe_difference
from runtime.artifact.open import open_artifact
from runtime.manifest import LengthRange, Resize


@pytest.mark.parametrize(
    ("stated", "ran", "difference"),
    [
        ({}, (1, 99), None),
        ({"height": (1, 20)}, (1, 7, 20), ""),
        ({"": (1, 20)}, (1, 7, 20), ""),
        ({"": (1, 40)}, (1, 7, 20), ""),  # the eager model refuses longer ones, as it did for the export
        ({"": (1, 20)}, (1, 7, 20, 33), ""),  # a sample of the user's is longer
        ({"": (1, 30)}, (1, 7, 30), 'expected "1 to 30", got "1 to 20"'),
        ({"": (1, 9)}, (1, 9), 'expected "1 to 9", got "1 to 20"'),
        ({"": (2, 20)}, (2, 7, 20), 'expected "2 to 20", got "1 to 20"'),
    ],
)
def test_lengths_that_are_stated_are_those_that_an_artifact_promises(tiny, stated, ran, difference):
    artifact = open_artifact(tiny)
    artifact.manifest.compared.clear()
    artifact.manifest.compared["height"] = LengthRange(lowest=1, highest=20)

    checks = list(check_lengths(stated, {"height": ran}, artifact, stage="geometry"))

    if difference is None:
        assert checks == []
    else:
        (check,) = checks
        assert (check.fault is None) == (difference == "")
        assert difference in check.finding
        assert ("state --lengths as it was exported" in check.finding) == bool(difference)


def test_the_first_value_that_differs_is_named_with_its_path():
    def of(size: int, interpolation: str) -> dict[str, object]:
        step = Resize(size=size, interpolation=interpolation, axis_order="larger_cut_first")
        return {"photo": {"kind": "image", "preprocessing": [step]}}

    assert describe_difference(of(40, "bicubic"), of(40, "bicubic")) == ""
    assert describe_difference(of(40, "bicubic"), of(41, "bilinear")) == (
        "'photo.preprocessing[0].size': expected 40, got 41, and 1 more differ"
    )
