"""The nodes of fitted transforms, run by torch as by scikit-learn."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from torch import nn

import exporter
from exporter.calibration.fit import calibrate
from exporter.conversion.to_torchscript import load_torchscript
from exporter.inputs.tabular.adapter import TabularAdapter
from exporter.inputs.tabular.estimator import read_table_transform
from runtime.manifest import LAYOUT

GENERATOR = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": GENERATOR.normal(5, 3, 60), "b": GENERATOR.uniform(1, 9, 60), "c": np.arange(60) % 5})
HOLES = FRAME.assign(a=FRAME["a"].where(FRAME.index != 3))
TRANSFORMS = {
    "imputed": make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()).fit(HOLES),
    "powers": PowerTransformer().fit(FRAME),
    "quantiles": QuantileTransformer(n_quantiles=20).fit(FRAME),
    "products": PolynomialFeatures().fit(FRAME),
    "bins": KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf").fit(FRAME),
    "lengths": Normalizer().fit(FRAME),
    "thresholds": Binarizer(threshold=4).fit(FRAME),
    "splines": SplineTransformer().fit(FRAME),
    "components": PCA(2).fit(FRAME),
    "logarithms": FunctionTransformer(np.log1p).fit(FRAME),
    "categories": ColumnTransformer(
        [("n", MinMaxScaler(), ["a", "b"]), ("o", OneHotEncoder(handle_unknown="ignore"), ["c"])]
    ).fit(FRAME),
    "codes": ColumnTransformer([("o", OrdinalEncoder(), ["c"])], remainder="passthrough").fit(FRAME),
}


def adapter_of(transform: object) -> TabularAdapter:
    return TabularAdapter(read_table_transform(transform, columns=(), trust=False), samples=None)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_torch_gives_the_features_of_the_fitted_transform(name):
    adapter = adapter_of(TRANSFORMS[name])
    module = adapter.torchscript_part().before()

    prepared = [adapter.prepare(case) for case in adapter.cases()]

    features = [module(*map(torch.from_numpy, case.arrays.values()))[0] for case in prepared]
    for actual, case in zip(features, prepared, strict=True):
        torch.testing.assert_close(actual, case.tensors["features"], rtol=1e-6, atol=1e-6)
    assert len({tuple(row.flatten().tolist()) for row in features}) > 1


def test_a_column_of_texts_or_an_unknown_operator_is_why_there_is_no_archive(monkeypatch):
    cities = pd.DataFrame({"city": ["Bern", "Oslo"] * 9})
    text = adapter_of(ColumnTransformer([("city", OneHotEncoder(), ["city"])]).fit(cities)).torchscript_part()
    numbers = adapter_of(TRANSFORMS["splines"])
    monkeypatch.delitem(numbers.torchscript_part.__globals__["unknown_operator"].__globals__["_OPERATORS"], "Less")

    assert "column 'city'" in text.obstacle
    assert "ONNX operator Less" in numbers.torchscript_part().obstacle


def test_an_archive_takes_the_columns_themselves_also_once_it_is_calibrated(tmp_path):
    torch.manual_seed(0)
    network = nn.Linear(3, 2).eval()
    torch.save(network.state_dict(), tmp_path / "rows.pth")
    scaler = StandardScaler().fit(FRAME)
    row = [4.5, 2.5, 3.0]
    with torch.no_grad():
        classes = network(torch.from_numpy(scaler.transform(FRAME)).float()).argmax(1).numpy()
    classes[:9] = 1 - classes[:9]  # so that it is sure, and not too sure
    FRAME.assign(label=classes).to_csv(tmp_path / "labeled.csv", index=False)

    exported = exporter.export(
        tmp_path / "rows.pth", network, preprocess=scaler, labels=["0", "1"], out=tmp_path / "rows"
    )
    found = calibrate(exported.artifact, tmp_path / "labeled.csv", out=tmp_path / "calibrated")

    assert ("model.torchscript", "end to end") in {(check.path, check.stage) for check in exported.parity.rows}
    features = torch.from_numpy(scaler.transform(pd.DataFrame([row], columns=list("abc")))).float()
    plain, calibrated = (
        load_torchscript(artifact / LAYOUT.torchscript)(*torch.tensor(row, dtype=torch.float64).reshape(3, 1, 1))
        for artifact in (exported.artifact, tmp_path / "calibrated")
    )
    with torch.no_grad():
        torch.testing.assert_close(plain, network(features).softmax(1))
        torch.testing.assert_close(calibrated, (network(features) * found.scales[0]).softmax(1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain, calibrated)
