"""The names of the classes are read in the order of the scores from any form that says it, and refused from others."""

import json
import sys
from pathlib import Path

import pytest
import torch

from exporter import ExportError
from exporter.options.task import TaskOptions
from exporter.outputs.labels import check_lines, describe_labels, read_labels, read_vocabulary
from exporter.outputs.registry import infer_postprocessing

FLOWERS = ("daisy", "rose", "tulip")
IN_ORDER = {"daisy": 0, "rose": 1, "tulip": 2}
TO_NAMES = {"2": "tulip", "0": "daisy", "1": "rose"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "daisy\nrose\ntulip\n\n"),
        ("names.txt", "\ufeffdaisy\r\nrose\r\ntulip"),
        ("names.csv", "daisy\nrose\ntulip\n"),
        ("names.csv", "name\ndaisy\nrose\ntulip\n"),
        ("list.json", json.dumps(FLOWERS)),
        ("list.txt", json.dumps(FLOWERS, indent=2)),
        ("printed.txt", "{0: 'daisy', 1: 'rose', 2: 'tulip'}"),
        ("to_names.json", json.dumps(TO_NAMES)),
        ("class_to_idx.json", json.dumps(dict(reversed(IN_ORDER.items())))),
        ("config.json", json.dumps({"model_type": "vit", "id2label": TO_NAMES, "label2id": IN_ORDER})),
        ("beside_others.json", json.dumps({"epoch": 3, "classes": FLOWERS})),
        ("beside_others.json", json.dumps({"size": [9, 9], "class_to_idx": IN_ORDER})),
        ("objects.json", json.dumps([{"id": IN_ORDER[name], "name": name} for name in reversed(FLOWERS)])),
        ("coco.json", json.dumps({"categories": [{"id": IN_ORDER[name], "name": name} for name in FLOWERS]})),
        ("numbered.txt", "0 daisy\n2 tulip\n1 rose\n"),
        ("numbered.txt", "0: daisy\n1: rose\n2: tulip\n"),
        ("numbered.txt", "0 - daisy\n1 - rose\n2 - tulip\n"),
        ("numbered.txt", "0,daisy\n1,rose\n2,tulip\n"),
        ("numbered.txt", "daisy,0\ntulip,2\nrose,1\n"),
        ("numbered.txt", "daisy 0\ntulip 2\nrose 1\n"),
        ("numbered.txt", "0, 'daisy'\n1, 'rose'\n2, 'tulip'\n"),
        ("numbered.txt", "0\tdaisy\n1\trose\n2\ttulip\n"),
        ("labels.csv", "1,rose\n0,daisy\n2,tulip\n"),
        ("labels.csv", "index,name\n0,daisy\n1,rose\n2,tulip\n"),
        ("labels.csv", "Name;ID;Color\ndaisy;0;white\nrose;1;red\ntulip;2;red\n"),
        ("labels.csv", "flower,place\ndaisy,0\nrose,1\ntulip,2\n"),
        ("labels.tsv", "0\tdaisy\n1\trose\n2\ttulip\n"),
    ],
)
def test_names_come_in_the_order_of_the_scores(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    assert read_labels(path, classes=3) == FLOWERS
    assert describe_labels(FLOWERS, path) == f"3 from {path}: daisy, ..., tulip"


@pytest.mark.parametrize(
    "names",
    [
        ("tench, Tinca tinca", "goldfish, Carassius auratus"),
        ("1", "0"),
        ("3D model", "2D drawing"),
        ("0 stars", "some stars"),
        ("class 1", "class 0"),
        ("Boeing 737", "Airbus 320"),
        ("dai\x85sy", "rose\u2028red"),
    ],
)
def test_lines_that_are_not_all_numbered_stay_as_they_are(tmp_path, names):
    (tmp_path / "names.txt").write_text("\n".join(names), encoding="utf-8")

    assert read_labels(tmp_path / "names.txt", classes=2) == names


def test_names_with_commas_and_quotes_in_a_table(tmp_path):
    (tmp_path / "labels.csv").write_text('index,label\n1,"tench, Tinca tinca"\n0,"say ""hi"""\n', encoding="utf-8")

    assert read_labels(tmp_path / "labels.csv", classes=2) == ('say "hi"', "tench, Tinca tinca")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("from_one.txt", "1 daisy\n2 rose\n3 tulip\n"),
        ("with_a_gap.txt", "0 daisy\n1 rose\n3 tulip\n"),
        ("twice.csv", "0,daisy\n1,rose\n1,tulip\n"),
        ("counts.txt", "0 star\n1 star\n2 star\n"),
        ("numbers_of_numbers.csv", "0,2\n1,0\n2,1\n"),
        ("three_columns.csv", "0,daisy,red\n1,rose,red\n2,tulip,red\n"),
        ("no_numbers.csv", "daisy,red\nrose,red\ntulip,red\n"),
        ("gap.json", json.dumps({"0": "daisy", "1": "rose", "3": "tulip"})),
        ("digits.json", json.dumps({"0": 0, "10": 1, "2": 2, "1": 10})),
        ("sorted_as_text.json", json.dumps({"0": 0, "2": 1, "1": 2})),
        ("synsets.json", json.dumps({"0": ["n1", "daisy"], "1": ["n2", "rose"], "2": ["n3", "tulip"]})),
        ("objects.json", json.dumps([{"id": 1}])),
        ("from_one.json", json.dumps([{"id": 1 + number, "name": name} for number, name in enumerate(FLOWERS)])),
        ("broken.json", '["daisy", '),
    ],
)
def test_an_ambiguous_order_is_refused_with_the_way_to_state_it(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")

    with pytest.raises(ExportError, match=r"Save the names as a JSON list in the order of the scores, such as \["):
        read_labels(tmp_path / name, classes=3)


def test_a_file_is_read_in_the_encodings_that_every_list_may_have(tmp_path):
    (tmp_path / "names.txt").write_bytes("daisy\r\nrosé\r\n".encode("utf-16"))
    assert read_labels(tmp_path / "names.txt", classes=2) == ("daisy", "rosé")

    (tmp_path / "names.txt").write_bytes("daisy\nrosé\n".encode("latin-1"))
    with pytest.raises(ExportError, match=r"names\.txt': not text: expected UTF-8, got byte 0xe9.*Save it as UTF-8"):
        read_labels(tmp_path / "names.txt", classes=2)


@pytest.mark.parametrize("name", ["data.toml", "labels.py", "labels.npy", "data.yaml"])
def test_a_format_whose_lines_are_no_names_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "yaml", None)  # not installed
    (tmp_path / name).write_text("- daisy\n- rose\n", encoding="utf-8")

    with pytest.raises(ExportError, match=rf"a table or JSON, got '\{Path(name).suffix}'\. Save the names as a JSON"):
        read_labels(tmp_path / name, classes=2)


@pytest.mark.parametrize(
    "text",
    ["- daisy\n- rose\n", "nc: 2\nnames: [daisy, rose]\n", "names:\n  1: rose\n  0: daisy\n", "{rose: 1, daisy: 0}"],
)
def test_yaml_is_read_as_json_is(tmp_path, text):
    pytest.importorskip("yaml")
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")

    assert read_labels(tmp_path / "data.yaml", classes=2) == ("daisy", "rose")


def test_yaml_that_says_other_things_is_refused(tmp_path):
    pytest.importorskip("yaml")
    for text in ("- yes\n- no\n", "a: [", "nc: 2\n"):
        (tmp_path / "data.yml").write_text(text, encoding="utf-8")
        with pytest.raises(ExportError, match="Save the names as a JSON list"):
            read_labels(tmp_path / "data.yml", classes=2)


def test_the_class_index_of_imagenet_and_classes_of_one_name_are_read_and_said(tmp_path):
    path = tmp_path / "imagenet_class_index.json"
    pairs = {"0": ["n02012849", "crane"], "2": ["n03126707", "crane"], "1": ["n01440764", "tench"]}
    path.write_text(json.dumps(pairs), encoding="utf-8")

    names = read_labels(path, classes=3)

    assert names == ("crane", "tench", "crane")
    assert describe_labels(names, path) == f"3 from {path}: crane, ..., crane; more than once: 'crane'"


def test_a_folder_of_classes_gives_them_as_image_folder_does(tmp_path):
    for name in ("rose", "daisy", "Tulip"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("")

    assert read_labels(tmp_path, classes=3) == ("Tulip", "daisy", "rose")


def test_names_on_one_line_are_to_be_put_on_several(tmp_path):
    (tmp_path / "names.txt").write_text("daisy, rose")

    with pytest.raises(ExportError, match=r"expected 2, .* got 1\. Put each name on a line of its own"):
        read_labels(tmp_path / "names.txt", classes=2)


@pytest.mark.parametrize("name", ["dai\nsy", "dai\u2028sy", "dai\rsy", ""])
def test_a_name_that_the_artifact_cannot_hold_on_a_line_is_refused(name):
    check_lines(("rose", "tulip, red"))
    with pytest.raises(ExportError, match="the name at index 1 is not one line of text"):
        check_lines(("rose", name))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("daisy\n\ntulip\n", "line 2 is empty: expected a label on every line"),
        ("daisy\nrose\n", "wrong number of labels: expected 3, one for each score of the model, got 2"),
        ('["daisy"]', "wrong number of labels: expected 3, one for each score of the model, got 1"),
    ],
)
def test_names_that_do_not_fit_the_scores_are_refused(tmp_path, text, problem):
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")

    with pytest.raises(ExportError, match=problem):
        read_labels(tmp_path / "names.txt", classes=3)


def test_one_name_for_the_two_classes_of_one_logit_is_refused_with_what_is_missing():
    logits = (torch.tensor([[1.5], [-0.5]]),)
    postprocessing = infer_postprocessing(logits, TaskOptions(task="binary"), labels_file="labels.txt", name="net")

    with pytest.raises(ExportError, match="Name the class that its one output is not about before it, such as 'back"):
        postprocessing.read_labels(("polyp",), lambda _classes: ((), ""))


def test_names_in_memory_are_taken_as_they_are():
    assert read_labels(("0 daisy", "1 rose"), classes=2) == ("0 daisy", "1 rose")
    assert describe_labels(("a", "b"), ("a", "b")) == "2 from the list given: a, ..., b"
    with pytest.raises(ExportError, match="--labels: wrong number of labels: expected 3"):
        read_labels(("a", "b"), classes=3)


def test_a_vocabulary_may_be_a_dictionary_of_numbers(tmp_path):
    (tmp_path / "word2idx.json").write_text(json.dumps({"the": 2, "<pad>": 0, "<unk>": 1}), encoding="utf-8")
    (tmp_path / "words.txt").write_text("<pad>\n<unk>\nthe\n", encoding="utf-8")

    assert read_vocabulary(tmp_path / "word2idx.json") == read_vocabulary(tmp_path / "words.txt")
    (tmp_path / "words.txt").write_text("the\nthe\n", encoding="utf-8")
    with pytest.raises(ExportError, match="line 2 repeats line 1"):
        read_vocabulary(tmp_path / "words.txt")
    (tmp_path / "words.txt").write_text("", encoding="utf-8")
    with pytest.raises(ExportError, match="empty: expected one word per line"):
        read_vocabulary(tmp_path / "words.txt")
