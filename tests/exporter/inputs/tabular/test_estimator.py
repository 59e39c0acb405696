"""scikit-learn's steps: each gives in the graph what it gives in training, or is refused by its name."""

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from onnx import TensorProto, helper
from sklearn import decomposition, feature_selection, impute, preprocessing, random_projection
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # scikit-learn's own way to allow it
from sklearn.impute import IterativeImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline

import exporter
from exporter.conversion.to_onnx import OPSET
from exporter.inputs import tabular as tables
from exporter.inputs.tabular import converters
from exporter.inputs.tabular.adapter import TabularAdapter, to_arrays
from exporter.inputs.tabular.to_onnx import ML_OPSET

GENERATOR = np.random.default_rng(0)
ROWS = 200
# Around a million, positive with a long tail, small whole numbers, and both signs.
NUMBERS = np.stack(
    [
        GENERATOR.normal(1e6, 3.0, ROWS),
        GENERATOR.lognormal(2.0, 1.0, ROWS),
        GENERATOR.integers(0, 5, ROWS).astype(float),
        GENERATOR.normal(0.0, 2.0, ROWS),
    ],
    axis=1,
)
POSITIVE = np.abs(NUMBERS) + 0.1
EMPTY = np.where(GENERATOR.random(NUMBERS.shape) < 0.1, np.nan, NUMBERS)
WHOLE = GENERATOR.integers(0, 5, (ROWS, 2))
WORDS = np.array([["a", "x"], ["b", "y"], ["c", "x"], ["a", "z"], ["a", "x"]] * (ROWS // 5), dtype=object)
TARGET = (NUMBERS[:, 3] > 0).astype(int)

FOLDED_IN = [
    (preprocessing.StandardScaler(), NUMBERS),
    (preprocessing.MinMaxScaler((-1, 1), clip=True), NUMBERS),
    (preprocessing.MaxAbsScaler(), NUMBERS),
    (preprocessing.RobustScaler(), NUMBERS),
    (preprocessing.Normalizer("l1"), NUMBERS),
    (preprocessing.Normalizer("l2"), NUMBERS),
    (preprocessing.Normalizer("max"), NUMBERS),
    (preprocessing.Binarizer(threshold=3), NUMBERS),
    (preprocessing.PowerTransformer(), NUMBERS),
    (preprocessing.PowerTransformer(standardize=False), NUMBERS[:, 1:]),
    (preprocessing.PowerTransformer("box-cox"), POSITIVE[:, 1:]),
    (preprocessing.PolynomialFeatures(2), NUMBERS),
    (preprocessing.PolynomialFeatures(3, interaction_only=True, include_bias=False), NUMBERS),
    (preprocessing.SplineTransformer(), NUMBERS),
    (preprocessing.SplineTransformer(degree=2, knots="quantile", include_bias=False), NUMBERS),
    (preprocessing.QuantileTransformer(n_quantiles=50), NUMBERS),
    (preprocessing.QuantileTransformer(n_quantiles=50, output_distribution="normal"), NUMBERS),
    (preprocessing.KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"), NUMBERS),
    (preprocessing.KBinsDiscretizer(4, encode="onehot-dense", strategy="uniform"), NUMBERS),
    (preprocessing.KBinsDiscretizer(4, encode="ordinal", strategy="uniform"), NUMBERS),
    (preprocessing.FunctionTransformer(), NUMBERS),
    *(
        (preprocessing.FunctionTransformer(function), POSITIVE[:, 1:])
        for function in (np.log, np.log1p, np.log2, np.log10, np.sqrt, np.abs, np.square, np.reciprocal)
    ),
    *(
        (preprocessing.FunctionTransformer(function), NUMBERS[:, 3:])
        for function in (np.exp, np.expm1, np.tanh, np.sin)
    ),
    (preprocessing.OneHotEncoder(), WORDS),
    (preprocessing.OneHotEncoder(handle_unknown="ignore"), WORDS),
    (preprocessing.OneHotEncoder(drop="first"), WORDS),
    (preprocessing.OneHotEncoder(drop="if_binary", sparse_output=False), WORDS),
    (preprocessing.OneHotEncoder(min_frequency=50, handle_unknown="infrequent_if_exist"), WORDS),
    (preprocessing.OneHotEncoder(max_categories=2), WORDS),
    (preprocessing.OneHotEncoder(drop="first", handle_unknown="ignore"), WHOLE),
    (preprocessing.OneHotEncoder(min_frequency=42), WHOLE),
    (preprocessing.OneHotEncoder(), WHOLE + 0.5),
    (preprocessing.OrdinalEncoder(), WORDS),
    (preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), WORDS),
    (preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), WHOLE),
    (preprocessing.OrdinalEncoder(min_frequency=50), WORDS),
    (preprocessing.TargetEncoder(), WORDS),
    (impute.SimpleImputer(), EMPTY),
    (impute.SimpleImputer(strategy="median", add_indicator=True), EMPTY),
    (impute.SimpleImputer(strategy="constant", fill_value=7), EMPTY),
    (impute.SimpleImputer(missing_values=0.0, strategy="most_frequent"), NUMBERS),
    (
        make_pipeline(
            impute.SimpleImputer(missing_values=None, strategy="most_frequent"), preprocessing.OneHotEncoder()
        ),
        np.where(WORDS == "z", None, WORDS),
    ),
    (impute.MissingIndicator(), EMPTY),
    (feature_selection.VarianceThreshold(1), NUMBERS),
    (feature_selection.SelectKBest(k=2), NUMBERS),
    (feature_selection.SelectPercentile(percentile=50), NUMBERS),
    (feature_selection.GenericUnivariateSelect(mode="k_best", param=2), NUMBERS),
    (feature_selection.SelectFromModel(RandomForestClassifier(5)), NUMBERS),
    (feature_selection.RFE(LogisticRegression(), n_features_to_select=2), NUMBERS[:, 1:]),
    (decomposition.PCA(2), NUMBERS),
    (decomposition.PCA(2, whiten=True), NUMBERS),
    (decomposition.TruncatedSVD(2), NUMBERS),
    (decomposition.IncrementalPCA(2), NUMBERS),
    (decomposition.KernelPCA(2, kernel="rbf", gamma=0.1), NUMBERS[:, 1:]),
    (random_projection.GaussianRandomProjection(2, random_state=0), NUMBERS),
]

REFUSED = [
    (decomposition.NMF(2, max_iter=1000), POSITIVE, "NMF: no conversion to ONNX in float64 is known"),
    (decomposition.FastICA(2, random_state=0), NUMBERS[:, 1:], "FastICA: no conversion to ONNX in float64 is known"),
    (decomposition.FactorAnalysis(2), NUMBERS, "FactorAnalysis: no conversion to ONNX in float64 is known"),
    (impute.KNNImputer(), EMPTY, "KNNImputer: no conversion to ONNX in float64 is known"),
    (IterativeImputer(), EMPTY, "IterativeImputer: no conversion to ONNX in float64 is known"),
    (
        preprocessing.FunctionTransformer(np.cumsum, kw_args={"axis": 1}),
        NUMBERS,
        "FunctionTransformer: cannot be converted to ONNX: the function 'cumsum' is Python: expected one of numpy.log,",
    ),
    (preprocessing.SplineTransformer(extrapolation="linear"), NUMBERS, "SplineTransformer: cannot be converted"),
]


def name_of(value: object) -> str | None:
    return type(value).__name__ if hasattr(value, "get_params") else "" if isinstance(value, np.ndarray) else None


def read(transform: object) -> TabularAdapter:
    return TabularAdapter(tables.read_table_transform(transform, columns=(), trust=False), samples=None)


def run(adapter: TabularAdapter, rows: list[dict[str, object]], width: int) -> np.ndarray:
    """Return what the nodes give for rows, each as the runtime hands it over."""
    part = adapter.raw_graph_part()
    graph = helper.make_graph(
        [node for nodes in part.nodes for node in nodes.nodes],
        "table",
        part.inputs,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", width])],
        [constant for nodes in part.nodes for constant in nodes.constants.values()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (spec,) = adapter.inputs
    arrays = [to_arrays(row, spec.columns) for row in rows]
    (found,) = session.run(None, {name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]})
    return found


@pytest.mark.parametrize(("transform", "data"), FOLDED_IN, ids=name_of)
def test_a_step_gives_its_training_rows_the_same_features(transform, data):
    transform.fit(data, TARGET)
    features = transform.transform(data)
    expected = np.asarray(features.toarray() if hasattr(features, "toarray") else features, dtype=np.float32)
    rows = [
        {f"x{place}": None if cell is None or cell != cell else cell for place, cell in enumerate(row)}
        for row in data.tolist()
    ]

    found = run(read(transform), rows, expected.shape[1])

    assert np.ptp(expected) > 0.1
    scale = np.maximum(np.abs(expected).max(axis=0), 1e-3)
    assert (np.abs(found - expected) / scale).max() <= 1e-6


@pytest.mark.parametrize(("transform", "data", "reason"), REFUSED, ids=name_of)
def test_a_step_that_has_no_nodes_is_named_with_the_way_to_it(transform, data, reason):
    numbers = make_pipeline(
        impute.SimpleImputer() if data is not EMPTY else preprocessing.FunctionTransformer(), transform
    )
    columns = list(range(data.shape[1]))
    whole = ColumnTransformer([("first", preprocessing.StandardScaler(), [0]), ("numbers", numbers, columns)])
    whole.fit(data, TARGET)
    name = type(transform).__name__

    with pytest.raises(exporter.PreprocessingError, match=f"step 'numbers' > '{name.lower()}' > {reason}") as caught:
        read(whole)
    assert str(caught.value).endswith(
        "Replace that step, or apply it to the rows before the model and leave it out of --preprocess."
    )
    assert "\n" not in str(caught.value)


def test_a_step_whose_nodes_are_wrong_is_named(monkeypatch):
    """The planted fault: log1p written as log."""
    monkeypatch.setitem(converters._FUNCTIONS, np.log1p, converters._FUNCTIONS[np.log])
    scaled = make_pipeline(preprocessing.FunctionTransformer(np.log1p), preprocessing.StandardScaler())
    both = FeatureUnion([("plain", preprocessing.StandardScaler()), ("logs", scaled)]).fit(POSITIVE)

    with pytest.raises(
        exporter.PreprocessingError,
        match="step 'logs' > 'functiontransformer' > FunctionTransformer: its nodes give something else",
    ):
        read(both)


def test_steps_one_after_another_and_beside_each_other():
    frame = pd.DataFrame(NUMBERS, columns=["price", "size", "rooms", "shift"]).assign(city=WORDS[:, 0])
    whole = ColumnTransformer(
        [
            (
                "logs",
                make_pipeline(preprocessing.FunctionTransformer(np.log1p), preprocessing.StandardScaler()),
                ["size"],
            ),
            (
                "ranks",
                preprocessing.QuantileTransformer(n_quantiles=30, output_distribution="normal"),
                ["price", "shift"],
            ),
            ("city", preprocessing.OneHotEncoder(max_categories=2), ["city"]),
            ("rooms", preprocessing.OneHotEncoder(drop="first"), ["rooms"]),
        ]
    ).fit(frame)
    expected = np.asarray(whole.transform(frame), dtype=np.float32)

    adapter = read(whole)
    found = run(adapter, frame.to_dict("records"), expected.shape[1])

    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    assert {column.name: column.categories for column in adapter.inputs[0].columns} == {
        "price": (),
        "size": (),
        "rooms": (0.0, 1.0, 2.0, 3.0, 4.0),
        "shift": (),
        "city": ("a", "b", "c"),
    }


def test_random_rows_are_where_the_transform_takes_them():
    """A logarithm takes no negative numbers, so none of the rows that parity compares has one."""
    adapter = read(preprocessing.FunctionTransformer(np.log).fit(POSITIVE))

    assert len(adapter.cases()) >= 16
    assert all(np.isfinite(adapter.prepare(case).tensors["features"].numpy()).all() for case in adapter.cases())
