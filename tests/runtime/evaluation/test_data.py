"""Labeled data: where a table has its inputs."""

import json

import pytest

import runtime
from runtime.errors import InputError
from runtime.evaluation.data import read_labeled, score_labeled


@pytest.fixture(scope="module")
def model(tiny):
    with runtime.load(tiny, device="cpu") as loaded:
        yield loaded


@pytest.mark.parametrize("column", ["path", "image", "file", "filename", "photo"])
def test_a_table_has_photos_under_any_usual_name_or_the_only_one(model, photos, tmp_path, column, monkeypatch):
    (tmp_path / "cat.jpg").write_bytes(photos["cat"].read_bytes())
    (tmp_path / "labels.csv").write_text(f"{column},label\ncat.jpg,{model.labels[1]}\n")
    if column == "photo":  # whose meaning is not known: as the caller's own paths are
        monkeypatch.chdir(tmp_path)

    scores = score_labeled(model, read_labeled(model, tmp_path / "labels.csv", column="label"))

    assert len(scores.names) == 1
    assert not scores.failures
    assert scores.truth.tolist() == [1]


def test_a_cell_that_is_no_image_costs_only_itself(model, photos, tmp_path):
    (tmp_path / "cat.jpg").write_bytes(photos["cat"].read_bytes())
    lines = [{"image": "cat.jpg", "label": model.labels[0]}, {"image": 3, "label": model.labels[0]}]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))

    scores = score_labeled(model, read_labeled(model, tmp_path / "labels.jsonl", column="label"))

    assert len(scores.names) == 1
    assert len(scores.failures) == 1


def test_columns_of_which_none_is_usual_are_named(model, tmp_path):
    (tmp_path / "labels.csv").write_text("a,b,label\nx,y,cat\n")

    with pytest.raises(InputError, match=r"no column of inputs: expected one of 'path', .*'image'.*got a, b, label"):
        score_labeled(model, read_labeled(model, tmp_path / "labels.csv", column="label"))
