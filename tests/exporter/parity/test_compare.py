"""When a difference is a fault."""

from dataclasses import replace

import pytest

import exporter
from exporter.outputs import postprocessing as postprocessing_module
from exporter.parity import subject

MEASURE = subject.measure_noise


@pytest.fixture
def asked(monkeypatch):
    """Measure too little noise on few inputs, and note how often every input is asked for."""
    asked = []

    def measure_noise(*arguments, every_input=False, **options):
        asked.append(every_input)
        return MEASURE(*arguments, every_input=every_input, **{**options, "max_ratio": 10.0 if every_input else 0.004})

    monkeypatch.setattr(subject, "measure_noise", measure_noise)
    return asked


def test_a_difference_beyond_the_noise_of_few_inputs_is_judged_by_that_of_every_one(export_mine, asked):
    exported = export_mine()

    assert asked == [False, True]
    assert exported.parity.verdict == "passed"
    # What travels with the artifact has the limits that it was judged by.
    last = next(one for one in exported.parity.noise if one.stage == "end to end")
    assert exported.manifest.golden.output_limits[last.tensor] >= last.limit


def test_what_no_noise_explains_is_a_fault_at_once(export_mine, asked, monkeypatch):
    original = postprocessing_module.Postprocessing.nodes
    monkeypatch.setattr(
        postprocessing_module.Postprocessing,
        "nodes",
        lambda postprocessing: original(replace(postprocessing, activation="none")),
    )

    with pytest.raises(exporter.ParityError, match="not equal to the eager model"):
        export_mine()

    assert asked == [False]
