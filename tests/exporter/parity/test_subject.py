"""The reference's side of a check, built in one place, and stages that two paths share."""

import numpy as np
import pytest
import torch
from support.networks import MeanThenHead
from support.rebuilding import UNCHANGED

from exporter.conversion.network_io import call
from exporter.inputs.tensor.adapter import TensorAdapter, read_input
from exporter.options.task import TaskOptions
from exporter.outputs.registry import infer_postprocessing
from exporter.parity import EagerModel, Reference, ServedPath, build_inputs, compare
from exporter.parity.cases import ServedStage, StageId
from runtime.manifest import FORMAT_VERSION, Classify, Golden, Labels, Manifest, Output, Source, Variant


@pytest.fixture
def eager():
    torch.manual_seed(0)
    network = MeanThenHead().eval()
    source = TensorAdapter(
        [read_input("x=float32[batch,length,4]")],
        samples=None,
        lengths={},
        probe=lambda tensors: call(network, tensors),
    )
    reference = Reference(network, source.prepare)
    run = reference.run(source.cases())
    postprocessing = infer_postprocessing(
        run.values, TaskOptions(task="classify"), labels_file="labels.txt", name="net"
    )
    return EagerModel(source=source, reference=reference, run=run, postprocessing=postprocessing)


@pytest.fixture
def manifest(eager):
    return Manifest(
        format_version=FORMAT_VERSION,
        name="net",
        task=Classify(labels=Labels(file="labels.txt", count=3)),
        inputs=eager.source.inputs,
        outputs=(Output(name="probabilities", dtype="float32", shape=("batch", 3)),),
        variants=(Variant(precision="fp32", model="model.onnx", network="model.onnx", weights="weights.bin"),),
        golden=Golden(file="golden.npz", prepared_limit=0.0, output_limits={}, end_to_end_limits={}),
        source=Source(
            architecture="net",
            arguments={},
            checkpoint_sha256="",
            checkpoint_entry="",
            keys=UNCHANGED,
            onnx_exporter="dynamo",
        ),
        files={},
        tools={},
        parity=None,
    )


@pytest.fixture
def subject(eager, manifest):
    return build_inputs(eager, manifest=manifest, labels=("a", "b", "c"), max_ratio=5.0)


def test_it_has_the_eager_networks_outputs_for_every_case_and_for_a_batch(eager, subject):
    assert [reference.case for reference in subject.references] == list(eager.source.cases())
    for reference in subject.references:
        with torch.no_grad():
            logits = eager.reference.network(*reference.prepared.tensors.values())
        assert np.array_equal(reference.inner["logits"], logits.numpy())
        assert np.array_equal(reference.outputs["probabilities"], torch.softmax(logits, dim=-1).numpy())
    assert len(subject.batch) == 7
    assert len({reference.prepared.arrays["x"].shape for reference in subject.batch}) == 1


def test_a_batch_of_known_cases_runs_the_eager_network_no_more(eager, subject):
    known = {id(reference) for reference in eager.references}

    assert {id(reference) for reference in (*subject.batch, *subject.decoded_batch)} <= known


def test_it_has_the_lengths_and_the_noise_at_the_ratio_that_was_asked_for(eager, subject):
    shapes = {reference.prepared.arrays["x"].shape[1] for reference in subject.references}
    assert subject.lengths == {"length": tuple(sorted(shapes))}
    assert all(noise.limit == pytest.approx(5 * noise.floor) for noise in subject.noise.noise)
    assert subject.max_ratio == 5.0
    again = subject.remeasure()
    assert {noise.tensor for noise in again.noise} == {noise.tensor for noise in subject.noise.noise}


def test_the_references_are_computed_once(eager):
    assert eager.references is eager.references


def network_stage(eager, runs, *, computation):
    """Return the network as a stage, which counts its runs."""

    def run(reference):
        runs.append(reference.case.name)
        with torch.no_grad():
            return {"logits": eager.reference.network(*reference.prepared.tensors.values()).numpy()}

    return ServedStage(id=StageId(stage="network", computation=computation, takes="network inputs"), run=run)


def path_of(eager, name, stage):
    def run(cases):
        outputs = eager.reference.run(cases).outputs(eager.postprocessing)
        return [reference.outputs for reference in outputs]

    return ServedPath(name=name, stages={"network": stage}, run=run)


@pytest.mark.parametrize(("other", "shared"), [("graph", True), ("another graph", False)])
def test_stages_with_equal_ids_are_run_once_and_have_a_row_for_each_path(eager, subject, other, shared):
    first, second = [], []
    paths = [
        path_of(eager, "model.onnx", network_stage(eager, first, computation="graph")),
        path_of(eager, "runtime", network_stage(eager, second, computation=other)),
    ]

    evidence = compare(paths, subject)

    assert evidence.passed, evidence.reason
    assert first
    assert second == ([] if shared else first)
    rows = [row for row in evidence.rows if row.stage == "network"]
    assert {row.path for row in rows} == {"model.onnx", "runtime"}
    assert len(rows) == 2 * len(subject.groups)
