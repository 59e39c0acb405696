"""The noise floor: measured on the network itself, never large enough to hide a fault, never too small for rounding."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from exporter.options.task import TaskOptions
from exporter.outputs.registry import infer_postprocessing
from exporter.parity import noise
from exporter.parity.cases import Case, PreparedInput, ReferenceOutput
from exporter.parity.noise import ROUNDINGS, describe_unstable, measure_noise, round_up

EPS = float(np.finfo(np.float32).eps)


def answers_of(network, inputs, task="classify"):
    """Return the answers of a network for single inputs, and its postprocessing."""
    with torch.no_grad():
        values = [network(one[None]) for one in inputs]
    postprocessing = infer_postprocessing(values, TaskOptions(task=task), labels_file="", name="net")
    answers = [
        ReferenceOutput(
            case=Case(name=f"case {row}", data=b""),
            prepared=PreparedInput(arrays={"x": one[None].numpy()}, tensors={"x": one[None]}),
            inner=postprocessing.expect_inner(value),
            outputs=postprocessing.expect(value),
        )
        for row, (one, value) in enumerate(zip(inputs, values, strict=True))
    ]
    return answers, postprocessing


def noise_of(network, inputs, task="classify", **more):
    answers, postprocessing = answers_of(network.eval(), inputs, task)
    return measure_noise(network, answers, postprocessing, **{"max_ratio": 10.0, **more})


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return torch.randn(6, 8)


def test_a_plain_network_has_a_floor_of_a_few_roundings(inputs):
    measured = noise_of(nn.Linear(8, 4), inputs)

    assert {(one.stage, one.tensor) for one in measured.noise} == {
        ("arithmetic", "x"),
        ("network", "logits"),
        ("activation", "probabilities"),
        ("end to end", "probabilities"),
    }
    for one in measured.noise:
        assert one.floor <= 1.1 * ROUNDINGS * EPS * one.size
        assert one.limit == pytest.approx(10 * one.floor)


def test_a_network_that_amplifies_rounding_has_a_larger_floor(inputs):
    class Amplifying(nn.Module):
        def forward(self, x):
            return (x[:, :4] + 1e4) * 3.7 - 3.7e4  # cancels all but the last digits

    (network,) = [one for one in noise_of(Amplifying(), inputs).noise if one.stage == "network"]

    assert network.precision > 100 * EPS * network.size
    assert network.floor >= network.precision


def test_a_network_that_amplifies_one_input_is_measured_on_it_when_every_input_is_asked_for(inputs, monkeypatch):
    class Amplifying(nn.Module):
        def forward(self, x):
            amplified = (x[:, :4] + 1e4) * 3.7 - 3.7e4
            return torch.where(x[:, 4:5] > 100, amplified, 3.7 * x[:, :4])

    monkeypatch.setattr(noise, "_SMALL_PARAMETERS", -1)  # as a large one, it is measured on the first, middle and last
    inputs[1, 4] = 101.0
    few, every = (noise_of(Amplifying(), inputs, every_input=every).limits() for every in (False, True))

    assert every["probabilities"] > 10 * few["probabilities"]


def test_an_input_that_the_eager_model_itself_moves_far_on_is_named(inputs):
    """Where a difference is called a fault, the cause may be that input, and not the conversion."""

    class Chaotic(nn.Module):
        def forward(self, x):
            return torch.where(x[:, 4:5] > 100, torch.sin(1e7 * x[:, :4]), x[:, :4])

    inputs[1, 4] = 101.0
    answers, postprocessing = answers_of(Chaotic(), inputs)
    calm = [answers[row] for row in (0, 2, 3)]
    measured = measure_noise(Chaotic(), calm, postprocessing, max_ratio=10.0)

    sentences = [describe_unstable(Chaotic(), answers, postprocessing, measured, name=f"case {row}") for row in (0, 1)]

    assert sentences[0] == ""
    assert re.match(r"The eager model itself gives 'logits' .* apart for 'case 1' where roundings", sentences[1])
    assert describe_unstable(Chaotic(), answers, postprocessing, measured, name="batch of 3") == ""


def test_the_limit_is_the_ratio_that_was_asked_for(inputs):
    network = nn.Linear(8, 4)
    tight, loose = (noise_of(network, inputs, max_ratio=ratio).limits() for ratio in (2.0, 20.0))

    assert loose["probabilities"] == pytest.approx(10 * tight["probabilities"])


def test_a_network_that_cannot_run_in_float64_says_so(inputs):
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 4)

        def forward(self, x):
            return self.linear(x.to(torch.float32))

    (network,) = [one for one in noise_of(Stubborn(), inputs).noise if one.stage == "network"]

    assert network.precision is None
    assert "not run in float64" in network.note
    assert network.floor > 0
    assert torch.get_default_dtype() == torch.float32


def test_a_random_network_is_no_noise_but_named(inputs):
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 4)

        def forward(self, x):
            return self.linear(torch.nn.functional.dropout(x, 0.5))  # training=True is the default

    random = noise_of(Dropping(), inputs).random
    assert "random: expected the same output" in random
    assert re.search(r"aten\.\w+.* at test_noise\.py:\d+ draws random numbers", random)


def test_answers_that_depend_on_the_batch_do_not_widen_the_limit(inputs):
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 4)

        def forward(self, x):
            return self.linear(x + x.mean(dim=0))

    measured = noise_of(Centred(), inputs)
    (network,) = [one for one in measured.noise if one.stage == "network"]

    assert "depends on what else is in the batch" in measured.no_batch
    assert network.batch > 0.01
    assert network.floor < 1e-5
    assert "depend on the batch" in network.note


def test_a_network_of_one_input_at_a_time_promises_no_batches(inputs):
    class Single(nn.Module):
        def forward(self, x):
            return x.reshape(1, 8)

    assert "forward pass on [4, 8] failed" in noise_of(Single(), inputs).no_batch


def test_whole_numbers_have_no_noise(inputs):
    class Places(nn.Module):
        def forward(self, x):
            return {"place": x.argmax(dim=1), "value": x.amax(dim=1)}

    by_name = {one.tensor: one for one in noise_of(Places(), inputs, task="raw").noise if one.stage == "network"}

    assert by_name["place"].limit == 0.0
    assert by_name["value"].limit > 0.0


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.0), (1.01e-6, 1.1e-6), (2.0e-7, 2.0e-7), (9.99, 10.0)])
def test_floors_are_rounded_up_to_two_digits(value, expected):
    assert round_up(value) == pytest.approx(expected)


def test_a_category_among_the_numbers_is_not_moved_to_another_one():
    """A category less a rounding would be the one before it: that is no noise."""

    class Categories(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 100 * self.table(x[:, 0].long()) + x[:, 1:]

    torch.manual_seed(0)
    inputs = torch.cat([torch.arange(1.0, 5.0)[:, None], torch.randn(4, 3)], dim=1)

    measured = noise_of(Categories(), inputs, task="regress")

    assert all(one.floor <= 1.1 * ROUNDINGS * EPS * one.size for one in measured.noise)


def test_whole_numbers_among_others_of_their_column_are_moved(inputs):
    inputs[0] = inputs[0].round()

    class Amplifying(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1e3 * (x - 1e6) + 1e9

    assert noise_of(Amplifying(), inputs + 1e6, task="raw").noise[-1].note
