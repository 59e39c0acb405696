"""Networks of rows: the fitted transform in the graph, as exact as scikit-learn, and each bad cell by name."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelEncoder,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    StandardScaler,
)
from torch import nn

import exporter
import runtime
from exporter.inputs import tabular as tables
from exporter.inputs.tabular.adapter import TabularAdapter
from exporter.inputs.tabular.estimator import statistics_from_json
from exporter.options.task import TaskOptions
from runtime.evaluation.data import read_labeled, score_labeled
from runtime.inputs.tabular.decoder import TabularDecoder
from runtime.manifest import Column


def people(rows: int = 120) -> pd.DataFrame:
    """A table with all that tables have: large numbers, empty cells, words, small whole numbers."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "salary": generator.normal(1e6, 3.0, rows),
            "age": generator.integers(18, 80, rows).astype(float),
            "city": generator.choice(["Bern", "Oslo", "Rome"], rows).astype(object),
            "rooms": generator.integers(1, 5, rows),
            "comment": ["never used"] * rows,
        }
    )
    frame.loc[3, "age"] = np.nan
    frame.loc[5, "city"] = np.nan
    return frame


def fitted() -> ColumnTransformer:
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["salary", "age"]),
            ("city", words, ["city"]),
            ("rooms", OneHotEncoder(), ["rooms"]),
        ]
    ).fit(people())


def train(features: int, outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(features, 8), nn.Tanh(), nn.Linear(8, outputs)).eval()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """A classifier of people's rows, and its eager parts."""
    folder = tmp_path_factory.mktemp("rows")
    transform, network = fitted(), train(9, 3)
    torch.save(network.state_dict(), folder / "model.pth")
    skops.io.dump(transform, folder / "transform.skops")
    exporter.export(folder / "model.pth", network, preprocess=str(folder / "transform.skops"), out=folder / "artifact")
    return folder / "artifact", transform, network


def rows_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    return [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        for row in frame.drop(columns="comment").to_dict("records")
    ]


def test_every_row_gets_the_eager_scripts_answer(artifact):
    path, transform, network = artifact
    frame = people()
    features = torch.from_numpy(transform.transform(frame)).float()
    with torch.no_grad():
        expected = torch.softmax(network(features), dim=-1).numpy()

    results = runtime.load(path).predict(rows_of(frame), top_k=3)

    assert [result.index for result in results] == expected.argmax(1).tolist()
    for result, scores in zip(results, expected, strict=True):
        assert {one.index: one.probability for one in result.top} == pytest.approx(dict(enumerate(scores)), abs=1e-6)


def test_the_manifest_says_what_each_column_takes(artifact):
    (spec,) = runtime.load(artifact[0]).manifest.inputs

    assert spec.columns == (
        Column(name="salary", dtype="float64", nullable=True),
        Column(name="age", dtype="float64", nullable=True),
        Column(name="city", dtype="string", nullable=True),
        Column(name="rooms", dtype="int64", categories=(1, 2, 3, 4)),
    )


def test_how_the_training_loader_read_texts_such_as_na_is_not_proven(artifact):
    report = json.loads((artifact[0] / "parity.json").read_bytes())

    assert any("texts such as 'NA' in columns of text" in sentence for sentence in report["not_proven"])


def test_a_large_number_with_small_differences_keeps_its_digits(artifact):
    """In float32, a salary of a million would be off by 0.02 deviations: what skl2onnx gives on its own."""
    report = json.loads((artifact[0] / "parity.json").read_bytes())

    rows = [row for row in report["rows"] if row["stage"] == "arithmetic"]
    assert rows
    assert all(row["difference"] == 0.0 for row in rows)
    inputs = {name for group in report["groups"] for name in group["inputs"]}
    assert {"random row 0", "empty age", "empty city", "all empty"} <= inputs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"age": "old"}, r"'#1': column 'age': not a number: expected a float64, got 'old'"),
        ({"rooms": 2.5}, "column 'rooms': not a whole number: expected an int64, got 2.5"),
        ({"rooms": None}, "column 'rooms': empty or NaN"),
        ({"rooms": 9}, "column 'rooms': unknown category: expected one of 1, 2, 3, 4, got 9. The training transform"),
        ({"rooms": "5"}, "column 'rooms': unknown category: expected one of 1, 2, 3, 4, got 5"),
        ({"salary": math.inf}, "column 'salary': infinite"),
        ({"city": 7}, r"column 'city': not a string: expected text, got 7 \(int\)"),
        ({"extra": 1}, "wrong columns: expected the 4 of the model, got unexpected 'extra'"),
        ({"": 0}, r"got unexpected ''; '' has no name, as the index that pandas writes without to_csv\(index=False\)"),
    ],
)
def test_a_bad_cell_costs_only_its_row_and_is_named(artifact, change, reason):
    good = rows_of(people())[0]

    first, bad, last = runtime.load(artifact[0]).predict([good, {**good, **change}, good])

    assert first.to_dict() == {**last.to_dict(), "input": "#0"}
    with pytest.raises(runtime.InputError, match=reason):
        _ = bad.label


def test_a_file_of_rows_is_read_in_python_as_predict_reads_it(artifact, tmp_path):
    rows = rows_of(people())[:3]
    rows[1]["age"] = "old"
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    model = runtime.load(artifact[0])

    first, bad, last = model.predict_each(runtime.read_inputs(model, tmp_path / "rows.json"))

    assert first.to_dict() == {**model.predict(rows[0]).to_dict(), "input": f"{tmp_path / 'rows.json'}#1"}
    assert "rows.json#2': column 'age': not a number" in bad.error
    assert last.index == model.predict(rows[2]).index


def test_a_frame_is_told_how_to_become_rows(artifact):
    with pytest.raises(runtime.InputError, match=r"got DataFrame\. Convert it first, as to_dict\('records'\) does"):
        runtime.load(artifact[0]).predict(people())


def test_a_misnamed_column_is_both_missing_and_unexpected(artifact):
    row = rows_of(people())[0]
    row["Age"] = row.pop("age")

    with pytest.raises(runtime.InputError, match="got missing 'age'; unexpected 'Age'"):
        runtime.load(artifact[0]).predict(row)


def test_an_unknown_category_is_ignored_or_refused_as_in_training(tmp_path):
    frame = pd.DataFrame({"lax": ["a", "b"] * 20, "strict": ["c", "d", "e", "c"] * 10}, dtype=object)
    transform = ColumnTransformer(
        [
            ("lax", OneHotEncoder(handle_unknown="ignore"), ["lax"]),
            ("strict", OrdinalEncoder(), ["strict"]),
        ]
    ).fit(frame)
    network = train(3, 2)
    torch.save(network.state_dict(), tmp_path / "model.pth")
    exporter.export(tmp_path / "model.pth", network, preprocess=transform, out=tmp_path / "artifact")
    model = runtime.load(tmp_path / "artifact")

    with torch.no_grad():
        expected = torch.softmax(network(torch.tensor([[0.0, 0.0, 1.0]])), dim=-1)[0, 0]
    assert model.run(model.stack([model.prepare({"lax": "new", "strict": "d"})]))["probabilities"][
        0, 0
    ] == pytest.approx(float(expected), abs=1e-6)
    with pytest.raises(runtime.InputError, match="column 'strict': unknown category: expected one of 'c', 'd', 'e'"):
        model.predict({"lax": "a", "strict": "new"})
    with pytest.raises(runtime.InputError, match="column 'strict': empty"):
        model.predict({"lax": "a", "strict": None})


@pytest.mark.parametrize(
    ("values", "good", "bad"), [([1, 2, 5], 5, 3), ([0.5, 1.5, 4.0], 1.5, 1.0), ([False, True, True], 1, 2)]
)
@pytest.mark.parametrize("encoder", [OneHotEncoder, OrdinalEncoder])
def test_a_number_that_training_never_saw_is_refused_where_the_encoder_does(encoder, values, good, bad):
    """By the runtime, with the column's name; the graph alone would give it another category's features."""
    transform = encoder().fit(pd.DataFrame({"rooms": values * 20}))
    adapter = TabularAdapter(tables.read_table_transform(transform, columns=(), trust=False), samples=None)
    decoder = TabularDecoder(adapter.inputs[0])

    assert decoder.decode({"rooms": good}, subject="row").values == (good,)
    with pytest.raises(runtime.InputError, match=f"row: column 'rooms': unknown category: .*, got {bad}. The training"):
        decoder.decode({"rooms": bad}, subject="row")


@pytest.mark.parametrize(
    "encoder",
    [OneHotEncoder(handle_unknown="ignore"), OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)],
)
def test_a_number_that_training_never_saw_is_ignored_where_the_encoder_does(encoder):
    encoder.fit(pd.DataFrame({"rooms": [1, 2, 5] * 20}))
    adapter = TabularAdapter(tables.read_table_transform(encoder, columns=(), trust=False), samples=None)

    assert TabularDecoder(adapter.inputs[0]).decode({"rooms": 77}, subject="row").values == (77,)
    assert "unseen rooms" in {case.name for case in adapter.cases()}  # and so parity compares it


@pytest.mark.parametrize("transform", [FunctionTransformer(np.log), PowerTransformer("box-cox")])
def test_a_row_that_the_transform_has_no_numbers_for_has_no_answer(transform, tmp_path):
    """A logarithm of less than zero: NaN and infinity are never handed on as probabilities."""
    transform.fit(pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 3.0, 9.0, 1.0]}))
    network = train(2, 3)
    torch.save(network.state_dict(), tmp_path / "model.pth")
    exporter.export(tmp_path / "model.pth", network, preprocess=transform, out=tmp_path / "artifact")
    model = runtime.load(tmp_path / "artifact")

    good, negative, zero = model.predict([{"a": 1.5, "b": 2}, {"a": -1, "b": 2}, {"a": 0, "b": 2}])

    assert good.probability > 0.3
    assert "'#1': no result: expected finite scores, got NaN or infinity" in negative.error
    # numpy's logarithm of zero is infinite, and the network's tanh takes that; Box-Cox refuses it.
    assert "no result" in zero.error if isinstance(transform, PowerTransformer) else zero.probability > 0.3
    with pytest.raises(runtime.InputError, match="no result"):
        model.predict({"a": -1, "b": 2})
    (tmp_path / "rows.csv").write_text("a,b,label\n1.5,2,0\n-1,2,0\n")
    found = score_labeled(model, read_labeled(model, tmp_path / "rows.csv", column="label"))
    assert (len(found.names), len(found.failures)) == (1, 1)


@pytest.mark.parametrize(
    "content",
    [
        {"a": {"mean": 10, "std": 2}, "b": {"mean": -1, "std": 0.5}},
        {"mean": {"a": 10, "b": -1}, "std": {"a": 2, "b": 0.5}},
        {"columns": ["a", "b"], "mean": [10, -1], "std": [2, 0.5]},
    ],
)
def test_statistics_read_in_the_forms_that_scripts_write(content, tmp_path):
    network = train(2, 1)
    torch.save(network.state_dict(), tmp_path / "model.pth")
    (tmp_path / "stats.json").write_text(json.dumps(content))

    exporter.export(
        tmp_path / "model.pth",
        network,
        preprocess=str(tmp_path / "stats.json"),
        task_options=TaskOptions(task="regress", target_mean=(100.0,), target_std=(20.0,)),
        out=tmp_path / "artifact",
    )

    with torch.no_grad():
        expected = float(network(torch.tensor([[1.0, 4.0]]))) * 20 + 100
    answer = runtime.load(tmp_path / "artifact").predict({"a": 12, "b": 1})
    assert answer.values == {"value": pytest.approx(expected, rel=1e-6)}
    assert answer.to_dict() == {"input": "#0", "values": answer.values}


def test_lists_of_statistics_are_named_by_columns():
    content = {"mean": [10, -1], "std": [2, 0.5]}

    found = statistics_from_json(content, "stats.json", columns=["a", "b"])

    assert (found.columns, found.offset, found.scale) == (("a", "b"), (10, -1), (2, 0.5))
    with pytest.raises(exporter.PreprocessingError, match="as lists of one length, with the names in --columns"):
        statistics_from_json(content, "stats.json", columns=["a"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": {"mean": 1}}, "column 'a': expected 'mean' and 'std'"),
        ({"a": {"mean": 1, "std": 0}}, "column 'a': does not vary"),
        ({"a": {"mean": "x", "std": 1}}, "column 'a': expected finite numbers"),
        ([], "no statistics"),
    ],
)
def test_statistics_that_cannot_be_meant_are_refused(content, reason):
    with pytest.raises(exporter.PreprocessingError, match=reason):
        statistics_from_json(content, "stats.json")


def test_a_pickle_is_not_loaded_unless_trusted(tmp_path):
    import joblib

    joblib.dump(MinMaxScaler().fit([[0.0], [2.0]]), tmp_path / "scaler.joblib")

    with pytest.raises(exporter.PreprocessingError, match="refused: a joblib or pickle file runs code"):
        tables.read_table_transform(str(tmp_path / "scaler.joblib"), columns=("x",), trust=False)
    reading = tables.read_table_transform(str(tmp_path / "scaler.joblib"), columns=("x",), trust=True)
    assert reading.transform([{"x": 1.0}]).tolist() == [[0.5]]


def test_what_is_not_fitted_is_named():
    with pytest.raises(exporter.PreprocessingError, match="not a fitted transform"):
        tables.read_table_transform(StandardScaler(), columns=(), trust=False)


def test_a_dictionary_of_encoders_is_refused_with_the_way_to_join_them():
    encoders = {"city": LabelEncoder().fit(["A", "B"]), "scaler": StandardScaler().fit([[0.0], [2.0]])}

    with pytest.raises(exporter.PreprocessingError, match=r"a dictionary of LabelEncoder, StandardScaler: .*Join them"):
        tables.read_table_transform(encoders, columns=(), trust=False)


def test_a_scaler_with_another_mean_in_the_graph_is_caught(monkeypatch, tmp_path):
    """The planted fault: the graph is written from a scaler fitted on other data."""
    from exporter.inputs.tabular import adapter as rows

    frame = people()[["salary", "rooms"]]
    original, other = rows.proven_nodes, StandardScaler().fit(frame * 1.0001)

    def another(reading, *rest, **names):
        return original(type(reading)(transformer=other, names=reading.names, origin="other"), *rest, **names)

    monkeypatch.setattr(rows, "proven_nodes", another)
    network = train(2, 2)
    torch.save(network.state_dict(), tmp_path / "model.pth")

    with pytest.raises(exporter.ParityError, match=r"model\.onnx, stage 'arithmetic'"):
        exporter.export(
            tmp_path / "model.pth", network, preprocess=StandardScaler().fit(frame), out=tmp_path / "artifact"
        )
    assert not (tmp_path / "artifact").exists()
