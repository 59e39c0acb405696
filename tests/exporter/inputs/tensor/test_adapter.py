"""Networks of plain arrays: any number of inputs, named lengths, any structure of outputs."""

import re

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

import exporter
import runtime
from exporter.inputs.tensor.adapter import TensorAdapter, input_to_text, read_batch_axes, read_input
from exporter.options.export import ExportOptions
from exporter.options.task import TaskOptions
from exporter.recheck import recheck_artifact
from runtime.engine.session import Session
from runtime.manifest import Entries, Items, LengthRange, TensorInput, TensorLeaf


class Digits(nn.Module):
    """Images as people feed them by hand: [batch, 3, 28, 28]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Recurrent(nn.Module):
    """What dynamo fixes the length of without saying so."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(series)[0][:, -1])


class Structured(nn.Module):
    """Two inputs by name, a nested answer."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 6)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, object]:
        steps = self.line(left)
        return {"steps": steps, "both": [(steps.mean(1), right * 2), {"sum": steps.sum((1, 2))}], "none": None}


def export(network: nn.Module, folder, *, inputs: list[str], **options: object) -> exporter.ExportResult:
    torch.save(network.eval().state_dict(), folder / "model.pth")
    return exporter.export(folder / "model.pth", network, inputs=inputs, out=folder / "artifact", **options)


@pytest.fixture(scope="module")
def structured(tmp_path_factory):
    torch.manual_seed(0)
    network = Structured()
    folder = tmp_path_factory.mktemp("structured")
    wanted = TaskOptions(task="raw")
    export(network, folder, inputs=["left=float32[batch,length,4]", "right=int64[batch]"], task_options=wanted)
    return network, folder / "artifact"


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("x=float32[batch,3,28,28]", ("batch", 3, 28, 28)),
        ("x = float32[ batch , length ]", None),
        ("x=uint16[batch, height, width]", ("batch", "height", "width")),
        ("x=float32[3,28]", None),
        ("x=float32[batch,0]", None),
        ("x=float31[batch]", None),
        ("x", None),
        ("x=float32[batch,a b]", None),
    ],
)
def test_an_input_reads_as_people_write_it(text, shape):
    if shape is None:
        with pytest.raises(exporter.ExportError, match="not an input: expected NAME=DTYPE"):
            read_input(text)
    else:
        assert read_input(text).shape == shape


def test_a_batch_that_is_another_dimension_becomes_the_first():
    spec = read_input("h=float32[2, batch, hidden]")

    assert (spec.shape, spec.batch_axis) == (("batch", 2, "hidden"), 1)
    assert input_to_text(spec) == "h=float32[2,batch,hidden]"
    assert b"batch_axis" not in msgspec.json.encode(read_input("x=float32[batch,3]"))
    assert read_batch_axes(["x=float32[batch,1,40]", "h=float32[2,batch,32]"]) == {"x": 0, "h": 1}
    assert read_batch_axes(["x=float32[batch,1,40]", "t=tokens[batch,length]"]) == {}


def test_an_input_without_a_batch_is_refused_with_how_to_name_it():
    with pytest.raises(exporter.ExportError, match=r"no batch dimension\. Name it, as in 'h=float32\[2,batch,32\]'"):
        read_input("h=float32[2,1,32]")


class Streaming(nn.Module):
    """One frame at a time; the state goes round outside, as torch.nn.LSTM has it: [layers, batch, hidden]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(5, 6, num_layers=2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x, h, c):
        y, (h, c) = self.lstm(x, (h, c))
        return self.out(y[:, -1]), h, c


def test_states_go_round_with_the_batch_first(tmp_path):
    """What the network gives for two streams of four frames, and what it gives step by step through the artifact."""
    torch.manual_seed(0)
    network = Streaming().eval()
    torch.save(network.state_dict(), tmp_path / "model.pth")
    inputs = ["x=float32[batch,1,5]", "h=float32[2,batch,6]", "c=float32[2,batch,6]"]
    out = tmp_path / "artifact"
    exporter.export(tmp_path / "model.pth", network, inputs=inputs, task="raw", out=out)

    model, frames = runtime.load(out, device="cpu"), torch.randn(2, 4, 5)
    state = {name: np.zeros((2, 2, 6), np.float32) for name in "hc"}
    for frame in range(4):
        scores, state["h"], state["c"] = model.run({"x": frames[:, frame : frame + 1].numpy(), **state}).values()
    with torch.no_grad():
        states, (h, _) = network.lstm(frames)
        expected = network.out(states[:, -1])
    torch.testing.assert_close(torch.from_numpy(scores), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.from_numpy(state["h"]), h.transpose(0, 1), atol=1e-5, rtol=0)
    options = ExportOptions(checkpoint=tmp_path / "model.pth", arch=network)
    assert recheck_artifact(out, options).evidence.passed


def test_a_whole_pickled_module_takes_an_array(tmp_path):
    torch.manual_seed(0)
    network = Digits().eval()
    torch.save(network, tmp_path / "model.pt")

    exported = exporter.export(
        tmp_path / "model.pt", trust=True, inputs=["x=float32[batch,3,28,28]"], out=tmp_path / "artifact"
    )

    model = runtime.load(exported.artifact)
    images = np.random.default_rng(1).random((3, 3, 28, 28), dtype=np.float32)
    with torch.no_grad():
        expected = torch.softmax(network(torch.from_numpy(images)), dim=-1).numpy()
    assert model.run({"x": images})["probabilities"] == pytest.approx(expected, abs=1e-6)
    assert model.predict(images[:1]).index == int(expected[0].argmax())
    assert [result.index for result in model.predict(list(images))] == expected.argmax(1).tolist()
    np.save(tmp_path / "one.npy", images[2])
    assert model.predict(tmp_path / "one.npy").index == int(expected[2].argmax())
    assert {row.path for row in exported.parity.rows} == {"model.onnx", "runtime", "model.torchscript"}


@pytest.mark.slow
def test_a_length_that_dynamo_would_fix_stays_free(tmp_path):
    torch.manual_seed(0)
    network = Recurrent()

    exported = export(network, tmp_path, inputs=["series=float32[batch,length,3]"])

    assert exported.manifest.source.onnx_exporter == "legacy"
    (onnx_step,) = (step for step in exported.steps if step.name == "ONNX")
    assert "(legacy exporter, as dynamo failed: " in onnx_step.finding
    assert exported.parity.fallbacks[0].startswith(
        "the network was converted by torch.onnx's legacy exporter, as dynamo"
    )
    model = runtime.load(exported.artifact)
    for length in (1, 2, 40, 200):
        series = torch.randn(2, length, 3)
        with torch.no_grad():
            expected = torch.softmax(network(series), dim=-1).numpy()
        assert model.run({"series": series.numpy()})["probabilities"] == pytest.approx(expected, abs=1e-5)


def test_a_list_of_different_lengths_keeps_its_order(structured):
    network, artifact = structured
    model = runtime.load(artifact)
    generator = np.random.default_rng(0)
    inputs = [
        {"left": generator.random((length, 4), dtype=np.float32), "right": np.int64(length)}
        for length in (5, 2, 5, 9, 2)
    ]

    results = model.predict(inputs)

    for given, result in zip(inputs, results, strict=True):
        with torch.no_grad():
            expected = network(torch.from_numpy(given["left"])[None], torch.tensor([given["right"]]))
        assert result.outputs["steps"] == pytest.approx(expected["steps"][0].numpy(), abs=1e-6)
        assert result.outputs["both"][0][1] == 2 * len(given["left"])
        assert result.outputs["both"][1]["sum"] == pytest.approx(float(expected["both"][1]["sum"]), abs=1e-5)


def test_the_structure_of_the_answer_is_in_the_manifest(structured):
    manifest = runtime.load(structured[1]).manifest

    assert manifest.inputs[0] == TensorInput(name="left", dtype="float32", shape=("batch", "length", 4))
    assert manifest.task.structure == Entries(
        entries={
            "steps": TensorLeaf(output="steps"),
            "both": Items(
                items=(
                    Items(items=(TensorLeaf(output="both.0.0"), TensorLeaf(output="both.0.1"))),
                    Entries(entries={"sum": TensorLeaf(output="both.1.sum")}),
                )
            ),
        }
    )
    assert [output.dtype for output in manifest.outputs] == ["float32", "float32", "int64", "float32"]
    assert manifest.outputs[0].shape == ("batch", "length", 6)


def test_a_network_without_a_second_length_is_told(tmp_path):
    with pytest.raises(exporter.ConversionError, match="it accepts fewer than two lengths of 'length'"):
        export(nn.Sequential(nn.Flatten(), nn.Linear(14, 3)), tmp_path, inputs=["x=float32[batch,length,2]"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"left": np.zeros((2, 4), np.float64), "right": np.int64(1)}, r"expected float32 \[length, 4\], got float64"),
        ({"left": np.zeros((2, 3), np.float32), "right": np.int64(1)}, r"got float32 \[2, 3\]"),
        ({"left": np.zeros((2, 2, 4), np.float32), "right": np.int64(1)}, r"got float32 \[2, 2, 4\]"),
        ({"left": np.zeros((0, 4), np.float32), "right": np.int64(1)}, r"got float32 \[0, 4\]"),
        (
            {"left": np.full((2, 4), np.nan, np.float32), "right": np.int64(1)},
            r"finite values in 'left', got nan at \[0, 0\]",
        ),
        ({"left": np.zeros((2, 4), np.float32)}, "expected 'left', 'right', got 'left'"),
        ({"left": [[1, 2, 3, 4]], "right": 1.5}, "wrong values for 'right': expected int64"),
        ({"left": [["a", 2, 3, 4]], "right": 1}, "wrong values for 'left': expected float32"),
        (b"nonsense", "not an array: expected .npy, .npz or JSON"),
        (np.zeros((2, 4), np.float32), "expected 'left', 'right' by name"),
    ],
)
def test_a_wrong_array_costs_only_itself(structured, source, reason):
    model = runtime.load(structured[1])
    good = {"left": [[1, 2, 3, 4.5]], "right": 2}

    first, bad, last = model.predict([good, source, good])

    assert first.outputs["both"][0][1] == last.outputs["both"][0][1] == 4
    with pytest.raises(runtime.InputError, match=reason):
        _ = bad.outputs


def test_verify_needs_no_network_to_check_arrays(structured):
    from runtime.verify import verify

    verification = verify(structured[1])

    assert verification.passed, verification
    assert "network, both.1.sum" in {check.title for check in verification.checks}


def test_lengths_and_batches_beyond_those_that_were_compared_are_no_part_of_the_promise(structured):
    model = runtime.load(structured[1])
    compared = model.manifest.compared
    assert compared == {"batch": LengthRange(lowest=1, highest=32), "length": LengthRange(lowest=1, highest=512)}

    def given(length: int) -> dict[str, object]:
        return {"left": np.ones((length, 4), np.float32), "right": np.int64(1)}

    short, long = model.predict([given(512), given(513)])
    assert short.outputs["steps"].shape == (512, 6)
    assert re.search("'length' outside what was compared .*: expected 1 to 512, got 513.*--lengths 1..513", long.error)
    with pytest.raises(runtime.InputError, match="inputs: 'length' outside what was compared"):
        model.run({"left": np.ones((1, 600, 4), np.float32), "right": np.ones(1, np.int64)})
    outputs = model.run({"left": np.ones((33, 2, 4), np.float32), "right": np.arange(33)})
    assert outputs["both.0.1"].tolist() == [2 * row for row in range(33)]


def test_more_inputs_than_the_largest_batch_that_was_compared_run_in_parts(structured, monkeypatch):
    model = runtime.load(structured[1])
    sizes = []
    run = Session.run
    monkeypatch.setattr(Session, "run", lambda self, arrays: sizes.append(len(arrays["right"])) or run(self, arrays))
    prepared = [model.prepare({"left": np.ones((2, 4), np.float32), "right": np.int64(row)}) for row in range(70)]

    scores = model.score(prepared)

    assert sizes == [32, 32, 6]
    assert [int(score["both.0.1"]) for score in scores] == [2 * row for row in range(70)]


@pytest.mark.parametrize(
    ("lengths", "known"),
    [
        ({}, {1, 2, 3, 96, 512}),
        ({"": (4, 2000)}, {4, 5, 7, 512, 1024, 2000}),
        ({"time": (1, 20)}, {1, 2, 16, 20}),
        ({"time": (30, 40)}, {30, 31, 32, 40}),
    ],
)
def test_the_lengths_that_are_compared_are_the_users_or_the_default_ones(lengths, known):
    adapter = TensorAdapter([read_input("x=float32[batch,time,2]")], samples=None, lengths=lengths, probe=lambda _: 0)

    tried = {adapter.decode(case)["x"].shape[1] for case in adapter.cases()}

    assert known <= tried
    low, high = next(iter(lengths.values()), (1, 512))
    assert (min(tried), max(tried)) == (low, high)


def test_lengths_that_the_network_refuses_between_others_are_named_as_not_refused_by_the_artifact():
    def probe(tensors):
        torch._check(tensors["x"].shape[1] % 2 == 0, lambda: "even lengths only")

    def probe_or_refuse(tensors):
        try:
            probe(tensors)
        except RuntimeError as error:
            raise exporter.ConversionError(str(error)) from error

    adapter = TensorAdapter([read_input("x=float32[batch,time,2]")], samples=None, lengths={}, probe=probe_or_refuse)
    cases, (count, gaps) = adapter.cases(), adapter.skipped_samples

    assert all(adapter.decode(case)["x"].shape[1] % 2 == 0 for case in cases)
    assert "the eager network refuses them" in count
    assert gaps.startswith("lengths of 'time' that the eager network refuses, 3, 5, 7, and 1 more: the artifact does")


def test_a_range_that_the_network_does_not_take_is_named():
    def probe(tensors):
        if tensors["x"].shape[1] > 40:
            raise exporter.ConversionError("too long for the positions.")

    adapter = TensorAdapter([read_input("x=float32[batch,time,2]")], samples=None, lengths={"": (1, 64)}, probe=probe)
    with pytest.raises(exporter.ConversionError, match="--lengths: the eager network takes no 64 for 'time': too long"):
        adapter.cases()
    with pytest.raises(exporter.ExportError, match=r"--lengths: no such dimension: .*time, got 'width'"):
        TensorAdapter([read_input("x=float32[batch,time,2]")], samples=None, lengths={"width": (1, 2)}, probe=probe)


def test_inputs_that_the_network_refuses_are_counted_with_the_reason():
    def probe(tensors):
        if float(tensors["x"].min()) < 0:
            raise exporter.ConversionError("negative numbers have no root.")

    adapter = TensorAdapter([read_input("x=float32[batch,4]")], samples=None, lengths={}, probe=probe)

    assert len(adapter.cases()) < 12
    (sentence,) = adapter.skipped_samples
    assert re.search(r"\d+ of 13 generated inputs: .*such as 'normal 0': negative numbers have no root", sentence)


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x).transpose(0, 1)


class OneAtATime(TimeFirst):
    """A size that is a number in the forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x.view(1, -1, 4)).mean(dim=1)


def test_outputs_whose_batch_is_not_first_come_with_the_batch_first(tmp_path):
    torch.manual_seed(0)
    network = TimeFirst()

    exported = export(network, tmp_path, inputs=["x=float32[batch,6,4]"], task_options=TaskOptions(task="raw"))

    assert exported.manifest.outputs[0].shape == ("batch", 6, 3)
    inputs = np.random.default_rng(0).random((5, 6, 4), dtype=np.float32)
    results = runtime.load(exported.artifact).predict(list(inputs))
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs)).numpy()
    for row, result in enumerate(results):
        assert result.outputs == pytest.approx(expected[:, row], abs=1e-6)


def test_a_network_of_one_input_at_a_time_is_exported_and_runs_one_at_a_time(tmp_path):
    torch.manual_seed(0)
    network = OneAtATime()

    exported = export(network, tmp_path, inputs=["x=float32[batch,6,4]"], task_options=TaskOptions(task="raw"))

    assert exported.manifest.compared["batch"] == LengthRange(lowest=1, highest=1)
    assert any("batches of more than one input" in sentence for sentence in exported.parity.not_proven)
    inputs = np.random.default_rng(0).random((5, 6, 4), dtype=np.float32)
    results = runtime.load(exported.artifact).predict(list(inputs))
    with torch.no_grad():
        expected = [network(torch.from_numpy(given)[None])[0].numpy() for given in inputs]
    for result, values in zip(results, expected, strict=True):
        assert result.outputs == pytest.approx(values, abs=1e-6)
