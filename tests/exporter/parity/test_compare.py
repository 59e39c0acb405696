"""When a difference is a fault."""

from dataclasses import replace

import numpy as np
import pytest

import exporter
from exporter.backends import onnx_graph
from exporter.outputs import postprocessing as postprocessing_module
from exporter.parity import paths, subject
from exporter.parity.compare import BATCHES
from runtime.model import Model

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


def counts(evidence, stage, path):
    """Return how many inputs of each group a path and a stage were run on."""
    return {
        row.group: row.planned
        for row in evidence.rows
        if (row.stage, row.path) == (stage, path) and row.group != BATCHES
    }


def test_other_forms_than_the_served_one_run_whole_on_a_few_inputs_where_their_pixels_are_equal_on_all(export_mine):
    evidence = export_mine().parity
    every = {group.name: len(group.inputs) for group in evidence.groups}
    few = dict.fromkeys(every, 1)

    assert max(every.values()) > 3
    assert counts(evidence, "end to end", "runtime") == every
    for path in ("model.onnx", "model.torchscript"):
        assert counts(evidence, "geometry", path) == every
        assert counts(evidence, "end to end", path) == few


def in_runs(monkeypatch, change=lambda rows, scores: scores):
    """Return the sizes of the runtime's runs from now on; ``change`` takes what each gives."""
    sizes = []
    original = Model._score_batch

    def score(model, prepared):
        sizes.append(len(prepared))
        return change(len(prepared), original(model, prepared))

    monkeypatch.setattr(Model, "_score_batch", score)
    return sizes


def off(scores, row):
    """Return the scores with those of one row, counted from the end, turned around."""
    return [np.roll(array, 1, axis=-1) if index == len(scores) + row else array for index, array in enumerate(scores)]


def test_the_runtime_runs_every_input_in_a_batch_and_one_of_each_group_alone(export_mine, monkeypatch):
    sizes = in_runs(monkeypatch)

    evidence = export_mine().parity

    every = {group.name: len(group.inputs) for group in evidence.groups}
    assert counts(evidence, "end to end", "runtime") == every
    assert sizes[:2] == [3, 16]
    assert sizes.count(1) == len(every)
    assert sum(every.values()) <= 3 + 16


def test_an_input_that_is_wrong_in_a_batch_alone_is_found(export_mine, monkeypatch):
    sizes = in_runs(monkeypatch, lambda rows, scores: off(scores, -1) if rows == 16 else scores)

    with pytest.raises(exporter.ParityError, match=r"batch of 16") as caught:
        export_mine()

    evidence = caught.value.report
    assert {row.group for row in evidence.rows if not row.passed} == {BATCHES}
    # Whether it is the batch or the input is shown by running each of them alone.
    assert sizes.count(1) == sum(len(group.inputs) for group in evidence.groups)


def test_inputs_that_are_wrong_alone_and_right_in_a_batch_are_found(export_mine, monkeypatch):
    in_runs(monkeypatch, lambda rows, scores: off(scores, -1) if rows == 1 else scores)

    with pytest.raises(exporter.ParityError, match="runtime") as caught:
        export_mine()

    assert BATCHES not in {row.group for row in caught.value.report.rows if not row.passed}


def test_a_thorough_export_runs_every_form_on_every_input(export_mine):
    evidence = export_mine(thorough=True).parity

    assert evidence.batch_sizes == (1, 2, 3, 7, 16)
    assert len({str(counts(evidence, "end to end", path)) for path in ("runtime", "model.torchscript")}) == 1


def test_a_form_with_other_pixels_runs_whole_on_every_input(export_mine, monkeypatch):
    original = paths.SubgraphCache.stage

    def stage(self, name, *arguments, **options):
        served = original(self, name, *arguments, **options)
        if name != "geometry":
            return served
        return replace(served, run=lambda reference: {key: array ^ 1 for key, array in served.run(reference).items()})

    monkeypatch.setattr(paths.SubgraphCache, "stage", stage)

    with pytest.raises(exporter.ParityError, match=r"model\.onnx, stage 'geometry'") as caught:
        export_mine()

    evidence = caught.value.report
    assert counts(evidence, "end to end", "model.onnx") == counts(evidence, "end to end", "runtime")


def test_forms_of_a_network_with_branches_run_whole_on_every_input(export_mine, monkeypatch):
    monkeypatch.setattr(onnx_graph, "_BRANCHING", {"Conv"})  # as in any network of photos

    evidence = export_mine().parity

    assert counts(evidence, "end to end", "model.torchscript") == counts(evidence, "end to end", "runtime")
