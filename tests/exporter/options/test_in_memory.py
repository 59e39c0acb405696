"""A network in memory, as in a notebook, is exported with what is there: its transform, labels and an input of it."""

import numpy as np
import pytest
import torch
from torch import nn

import exporter
import runtime
from exporter.errors import ExportError
from exporter.options.export import ExportOptions
from exporter.options.in_memory import saved_network


class TwoInputs(nn.Module):
    """Scores of an array and token numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.words = nn.Linear(6, 3), nn.Embedding(9, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.drop(self.line(left) + self.words(right).sum(dim=1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TwoInputs()


SAMPLE = (torch.zeros(1, 6), torch.zeros(1, 4, dtype=torch.int64))


@pytest.mark.parametrize("sample", [SAMPLE, list(SAMPLE), {"left": np.zeros((5, 6), np.float32), "right": SAMPLE[1]}])
def test_a_sample_describes_the_inputs_by_the_parameters_of_the_forward(network, sample):
    with saved_network(network, {"sample": sample}) as options:
        assert options.inputs == ("left=float32[batch,6]", "right=int64[batch,4]")
        assert (options.artifact_name, options.checkpoint.is_file()) == ("two_inputs", True)
    assert not options.checkpoint.exists()


def test_a_network_in_memory_is_exported_and_left_as_it_is(network, tmp_path):
    exported = exporter.export(network, sample=SAMPLE, labels=["a", "b", "c"], out=tmp_path / "artifact")

    assert network.training
    assert repr(exported).startswith(
        f"<ExportResult '{tmp_path / 'artifact'}': <Evidence on 'two_inputs', 13 inputs: pas"
    )
    assert "<td>end to end</td>" in exported._repr_html_()
    left, right = torch.randn(2, 6), torch.randint(9, (2, 4))
    with torch.no_grad():
        expected = network.eval()(left, right).softmax(dim=1)
    model = runtime.load(exported.artifact, device="cpu")
    assert repr(model) == "<Model 'two_inputs': classify, fp32 on cpu>"
    assert "<tr><th>task</th><td>classify</td></tr>" in model._repr_html_()
    scores = model.run({"left": left.numpy(), "right": right.numpy()})["probabilities"]
    torch.testing.assert_close(torch.from_numpy(scores), expected, atol=1e-6, rtol=0)
    with pytest.raises(
        runtime.InputError, match=r"not a number: expected finite values in 'left', got nan at \[1, 0\]"
    ):
        model.run({"left": np.array([[0] * 6, [np.nan] * 6], np.float32), "right": right.numpy()})


def test_transform_stands_for_preprocess_and_compiled_networks_for_their_own(network):
    compiled = torch.compile(network)
    transform = nn.Identity()

    with saved_network(compiled, {"transform": transform}) as options:
        assert options.preprocess is transform
        assert isinstance(options.arch, TwoInputs)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"arch": "resnet18"}, "arch: has no effect, as the network is given"),
        ({"transform": nn.Identity(), "preprocess": nn.Identity()}, "transform and preprocess: are the same option"),
        ({"sample": SAMPLE, "inputs": ("left=float32[batch,6]",)}, "sample: describes the inputs, as inputs does"),
        ({"sample": "photo.jpg"}, "sample: expected tensors with a batch dimension, .* got str for 'left'"),
        ({"sample": torch.zeros(())}, r"got shape \[\] for 'left'"),
        ({"lables": ["a"]}, "unknown option 'lables'. Did you mean 'labels'"),
        ({"transfrom": nn.Identity()}, "unknown option 'transfrom'. Did you mean 'transform'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(network, options, problem):
    with pytest.raises(ExportError, match=problem), saved_network(network, options):
        pass


def test_transform_stands_for_preprocess_beside_a_checkpoints_path_as_well():
    assert ExportOptions.from_keywords("m.pth", "resnet18", transform="val.py:t").preprocess == "val.py:t"
