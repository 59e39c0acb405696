"""Outputs that depend on more than the input: on random numbers, or on what a model keeps of earlier calls."""

import pytest
import torch
from torch import Tensor, nn

from exporter.options.task import TaskOptions
from exporter.outputs.registry import infer_postprocessing
from exporter.parity.advice import advise
from exporter.parity.cases import Case, PreparedInput, ReferenceOutput
from exporter.parity.noise import measure_noise
from exporter.parity.randomness import RANDOM, STATE, State, describe_hidden, find_randomness, random_operators
from exporter.parity.verdict import judge
from runtime.evidence import Evidence, Row

X = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)
        self.register_buffer("mean", torch.zeros(8))
        self.calls = 0
        self.positions = None

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Counting(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(x) * self.calls


class Following(Net):
    """As slow an average as networks keep."""

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.99999).add_(x.mean(dim=0), alpha=0.00001)
        return self.head(x - self.mean)


class Replacing(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.mean = self.mean + 0.1 * x[0]
        return self.head(x - self.mean)


class Caching(Net):
    def forward(self, x: Tensor) -> Tensor:
        if self.positions is None:
            self.positions = torch.arange(8.0)
        return self.head(x + self.positions)


class Dropping(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.dropout(x, 0.5))


class Seeded(Net):
    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return self.head(x + torch.randn_like(x))


def reference_of(network: nn.Module):
    with torch.no_grad():
        value = network(X)
    postprocessing = infer_postprocessing((value,), TaskOptions(task="raw"), labels_file="", name="net")
    prepared = PreparedInput(arrays={"x": X.numpy()}, tensors={"x": X})
    outputs = {"inner": postprocessing.expect_inner(value), "outputs": postprocessing.expect(value)}
    return ReferenceOutput(case=Case(name="a", data=b""), prepared=prepared, **outputs), postprocessing


@pytest.mark.parametrize(("network", "name"), [(Counting, "calls"), (Following, "mean"), (Replacing, "mean")])
def test_what_a_call_changes_is_named_however_little_it_changes(network, name):
    reference, postprocessing = reference_of(net := network().eval())

    random = find_randomness(net, reference, postprocessing)

    assert random.startswith(STATE)
    assert random.endswith(f"each call changes '{name}'")


def test_random_numbers_are_no_state():
    reference, postprocessing = reference_of(net := Dropping().eval())

    random = find_randomness(net, reference, postprocessing)

    assert random.startswith(RANDOM)
    assert "bernoulli" in random
    assert "test_randomness.py" in random


class Choosing(Net):
    """The remedy for branches on values."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: self.head(y), lambda y: self.head(y).sigmoid(), (x,))


@pytest.mark.parametrize("network", [Net, Caching, Seeded, Choosing])
def test_a_network_that_repeats_itself_is_neither(network):
    reference, postprocessing = reference_of(net := network().eval())

    assert find_randomness(net, reference, postprocessing) == ""
    assert measure_noise(net, [reference], postprocessing, max_ratio=10.0).random == ""


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (Caching, "Its forward keeps 'positions' from one call to the next, and a graph keeps nothing: compute them"),
        (Seeded, "Its forward draws random numbers (aten.randn_like.default at test_randomness.py:"),
        (Net, ""),
    ],
)
def test_what_else_than_its_input_a_network_uses_is_the_advice_on_its_graph(network, sentence):
    state = State(net := network().eval())
    with torch.no_grad():
        net(X)

    hidden = describe_hidden(net, state, {"x": X})

    assert hidden.startswith(sentence)
    assert bool(hidden) == bool(sentence)


def row(stage) -> Row:
    figures = dict.fromkeys(("difference", "limit", "difference_p99", "share", "floor"))
    about = {"path": "model.onnx", "device": "cpu", "group": "generated", "worst_input": "a", "unit": "values"}
    return Row(stage=stage, planned=1, inputs=1, fault="value", finding="off", **about, **figures)


def evidence_of(*rows: Row, random: str = "") -> Evidence:
    about = {
        "verdict": "passed",
        "reason": "",
        "first_fault": None,
        "max_ratio": 10.0,
        "batch_sizes": (1,),
        "tools": {},
    }
    evidence = Evidence(artifact="x", rows=rows, noise=(), groups=(), near_ties=(), **about)
    return judge(evidence, random=random)


def test_the_advice_follows_from_what_was_found():
    network, geometry = evidence_of(row("network")), evidence_of(row("geometry"))

    assert advise(network, hidden="It draws.").startswith("It draws. If the fault stays, pass --locate FOLDER")
    assert "own version of the transform" in advise(geometry, hidden="It draws.")
    assert "The cause is the conversion to ONNX" in advise(network)
    assert "'if self.training:'" in advise(evidence_of(random=f"{STATE}: twice"))


class Attention(Net):
    """Fused attention, which torch tags as random, also without dropout."""

    dropout = 0.0

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(1, 1, 2, 4)
        return nn.functional.scaled_dot_product_attention(rows, rows, rows, dropout_p=self.dropout)


def test_fused_attention_is_random_only_where_it_drops():
    network, dropping = Attention().eval(), Attention().eval()
    dropping.dropout = 0.5

    with torch.no_grad():
        assert random_operators(lambda: network(X)) == ()
        assert random_operators(lambda: dropping(X)) != ()
