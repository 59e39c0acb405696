"""What training did to a regression's target, undone in the graph, as scikit-learn's own inverse has it."""

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from torch import nn

import exporter
import runtime
from exporter.conversion.to_torchscript import load_torchscript
from exporter.options.task import TaskOptions
from exporter.outputs import target_transform as target
from exporter.outputs.target_inverse import apply_inverse
from exporter.outputs.target_transform import read_target
from runtime.manifest import Affine, InverseFunction, Value
from runtime.verify import verify

PRICES = np.random.default_rng(0).lognormal(12, 0.5, (80, 2))


def logarithm() -> FunctionTransformer:
    return FunctionTransformer(np.log1p, np.expm1)


@pytest.mark.parametrize(
    ("transform", "kinds"),
    [
        (StandardScaler(), [Affine]),
        (MinMaxScaler((-1, 1)), [Affine]),
        (RobustScaler(), [Affine]),
        (logarithm(), [InverseFunction]),
        (FunctionTransformer(np.log, np.exp), [InverseFunction]),
        (FunctionTransformer(np.sqrt, np.square), [InverseFunction]),
        (PowerTransformer(), [Affine, InverseFunction]),
        (PowerTransformer("box-cox", standardize=False), [InverseFunction]),
        (make_pipeline(logarithm(), StandardScaler()), [Affine, InverseFunction]),
        (make_pipeline(MinMaxScaler(), PowerTransformer(), RobustScaler()), [Affine, Affine, InverseFunction, Affine]),
    ],
)
def test_a_fitted_transform_is_undone_as_its_own_inverse_does(transform, kinds):
    transformed = transform.fit_transform(PRICES)

    steps = read_target(transform, trust=False)

    assert [type(step) for step in steps] == kinds
    assert apply_inverse(steps, transformed) == pytest.approx(PRICES, rel=1e-6)
    assert apply_inverse(steps, transformed) == pytest.approx(transform.inverse_transform(transformed), rel=1e-9)


def test_a_lambda_of_zero_is_a_logarithm():
    transform = PowerTransformer(standardize=False).fit(PRICES)
    transform.lambdas_ = np.array([0.0, 2.0])
    values = np.array([[-2.0, -2.0], [0.0, 0.0], [3.0, 3.0]])

    assert apply_inverse(read_target(transform, trust=False), values) == pytest.approx(
        transform.inverse_transform(values)
    )


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        (QuantileTransformer(n_quantiles=10), "its inverse is neither affine nor a power: .* got QuantileTransformer"),
        (FunctionTransformer(np.log1p, lambda y: np.exp(y) - 1), "its inverse is Python: expected .* numpy.expm1"),
    ],
)
def test_what_the_graph_cannot_undo_is_named(transform, reason):
    with pytest.raises(exporter.PreprocessingError, match=reason):
        read_target(transform.fit(PRICES), trust=False)


def test_a_formula_that_is_not_scikit_learns_is_caught(monkeypatch):
    monkeypatch.setitem(target._INVERSES, np.expm1, "exp")

    with pytest.raises(exporter.PreprocessingError, match="its inverse cannot be reproduced"):
        read_target(logarithm().fit(PRICES), trust=False)


def export(folder, steps, *, outputs: int, **wanted):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, outputs)).eval()
    torch.save(network.state_dict(), folder / "model.pth")
    names = tuple(Value(name=name) for name in ("low", "high")[:outputs])
    exporter.export(
        folder / "model.pth",
        network,
        inputs=["x=float32[batch,3]"],
        task_options=TaskOptions(task="regress", values=names, target_transform=steps, **wanted),
        out=folder / "artifact",
    )
    return network


def test_the_artifact_gives_the_targets_own_numbers(tmp_path):
    """Two prices behind a Yeo-Johnson transform, in ONNX and in TorchScript."""
    transform = PowerTransformer().fit(PRICES)
    network = export(tmp_path, read_target(transform, trust=False), outputs=2)
    given = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    with torch.no_grad():
        expected = transform.inverse_transform(network(torch.from_numpy(given)).numpy().astype(np.float64))

    answers = runtime.load(tmp_path / "artifact").predict(list(given))

    found = np.array([[answer.values["low"], answer.values["high"]] for answer in answers])
    assert np.ptp(expected) > 5e4
    assert found == pytest.approx(expected, rel=1e-5)
    script = load_torchscript(tmp_path / "artifact" / "model.torchscript")
    assert script(torch.from_numpy(given)).numpy() == pytest.approx(expected, rel=1e-5)
    assert verify(tmp_path / "artifact", device="cpu").passed


def test_a_name_undoes_a_logarithm_after_the_scaling(tmp_path):
    network = export(tmp_path, read_target("log1p", trust=False), outputs=1, target_mean=(12.0,), target_std=(0.5,))
    given = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    with torch.no_grad():
        expected = np.expm1(network(torch.from_numpy(given)).numpy().astype(np.float64)[:, 0] * 0.5 + 12)

    answers = runtime.load(tmp_path / "artifact").predict(list(given))

    assert [answer.values["low"] for answer in answers] == pytest.approx(expected, rel=1e-5)


def test_a_transform_of_another_number_of_values_is_refused(tmp_path):
    with pytest.raises(exporter.ExportError, match="fitted on 2 values: expected 1"):
        export(tmp_path, read_target(StandardScaler().fit(PRICES), trust=False), outputs=1)


def test_one_score_for_a_class_is_refused_with_what_it_may_be(tmp_path):
    network = nn.Linear(3, 1)
    torch.save(network.state_dict(), tmp_path / "model.pth")

    with pytest.raises(exporter.ConversionError, match=r"one score per input: .* --task binary .* or --task regress"):
        exporter.export(tmp_path / "model.pth", network, inputs=["x=float32[batch,3]"], out=tmp_path / "artifact")
