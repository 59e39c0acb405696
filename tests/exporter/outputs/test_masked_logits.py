"""Logits of minus infinity: classes that are masked have the probability 0, and are no fault of the network."""

import pytest
import torch
from torch import nn

import exporter
import runtime
from exporter.options.export import TaskOptions
from exporter.outputs.registry import infer_postprocessing

INFINITY = float("inf")


class Masked(nn.Module):
    """Five classes, of which two are never allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(6, 5)
        self.register_buffer("banned", torch.tensor([False, True, False, False, True]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x).masked_fill(self.banned, -INFINITY)


def infer(rows, task):
    values = (torch.tensor(rows),)
    return infer_postprocessing(values, TaskOptions(task=task), labels_file="labels.txt", name="Masked")


@pytest.mark.parametrize("task", ["classify", "multilabel"])
def test_a_masked_class_is_a_probability_of_zero(task):
    rows = [[1.0, -INFINITY, 0.5]]

    (scores,) = infer(rows, task).expect(torch.tensor(rows)).values()

    assert scores[0, 1] == 0.0
    assert scores[0, 0] > scores[0, 2] > 0.0


@pytest.mark.parametrize("task", ["classify", "multilabel"])
@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([[1.0, float("nan"), 0.5]], "gives NaN or infinity"),
        ([[1.0, INFINITY, 0.5]], "gives NaN or infinity"),
    ],
)
def test_what_gives_no_probabilities_is_refused(task, rows, problem):
    with pytest.raises(exporter.ParityError, match=problem):
        infer(rows, task)


def test_an_input_without_any_class_is_refused_where_a_softmax_follows():
    with pytest.raises(exporter.ParityError, match=r"masks every class of an input .*pass --task multilabel"):
        infer([[1.0, 0.0, 0.5], [-INFINITY] * 3], "classify")


@pytest.mark.parametrize(
    ("task", "rows", "expected"),
    [
        ("multilabel", [[1.0, 2.0, 0.5], [-INFINITY] * 3], [0.0, 0.0, 0.0]),
        ("binary", [[1.5], [-INFINITY]], [1.0, 0.0]),
        ("segment", [[[[2.0, -1.0]]], [[[-INFINITY, -INFINITY]]]], [[[1.0, 1.0]], [[0.0, 0.0]]]),
    ],
)
def test_an_input_without_any_class_has_probabilities_of_zero_where_a_sigmoid_follows(task, rows, expected):
    (scores,) = infer(rows, task).expect(torch.tensor(rows)).values()

    assert scores[1].tolist() == expected


def test_a_network_that_masks_classes_is_proven_and_served(tmp_path):
    torch.manual_seed(0)
    network = Masked().eval()
    torch.save(network.state_dict(), tmp_path / "masked.pth")

    exported = exporter.export(
        tmp_path / "masked.pth", network, inputs=("x=float32[batch,6]",), out=tmp_path / "artifact"
    )

    x = torch.randn(3, 6)
    with torch.no_grad():
        expected = network(x).softmax(dim=-1).numpy()
    probabilities = runtime.load(exported.artifact, device="cpu").run({"x": x.numpy()})["probabilities"]
    assert probabilities == pytest.approx(expected, abs=1e-6)
    assert (probabilities[:, [1, 4]] == 0.0).all()
