"""Every option is for the input kinds, tasks and companions that its field names, and refused elsewhere."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from exporter import ExportError, ExportOptions, TaskOptions
from exporter.options.parts import is_of_part
from exporter.options.rules import NOUNS, flag_of, option_fields
from exporter.outputs.registry import TASKS
from runtime.manifest import Value

ROOT = Path(__file__).parents[3]
OPTIONS = {about.name: about.metadata["option"] for about in option_fields(ExportOptions)}
KINDS = tuple(NOUNS)

# A value of each option that has no effect on others.
VALUES = {
    "arch": "resnet18",
    "arguments": {"width": 3},
    "preprocess": "val.py:transform",
    "resize": 64,
    "crop": 60,
    "mean": 0.5,
    "std": 0.5,
    "interpolation": "bicubic",
    "resize_backend": "opencv",
    "channels": "bgr",
    "exif": True,
    "truncated": True,
    "pixel_format": "L",
    "inputs": "x=float32[batch,3]",
    "columns": "a,b",
    "parts": {"photo": "v.py:t", "row": "c.skops"},
    "tokenizer": "tokenizer.json",
    "text_pairs": True,
    "vocabulary": "words.txt",
    "unknown_word": "<unk>",
    "lowercase": True,
    "max_length": 12,
    "pad_id": 0,
    "lengths": {"": (1, 64)},
    "labels": "names.txt",
    "samples": "photos",
    "max_ratio": 4.0,
    "precision": "int8",
    "calibration": "photos",
    "column": "text",
    "min_agreement": 0.9,
    "thorough": True,
    "locate": "fault",
    "ignore_memory": True,
    "weights": "model",
    "ignore_keys": "criterion.*",
    "trust": True,
    "imports": "net.py",
    "name": "mine",
    "out": "here",
    "force": True,
    "forms": "onnx",
    "opset": 18,
    "single_file": True,
    "task": "classify",
    "values": (Value(name="price"),),
    "target_mean": 3.0,
    "target_std": 2.0,
    "target_transform": "log",
    "thresholds": 0.9,
    "end_id": 1,
    "colors": "red,blue",
    "heads": "race=0:7,gender=7:9",
}


def options_of(*names: str) -> ExportOptions:
    """Return options with a value of each that is named, and what those need."""
    needed = set(names)
    for _ in OPTIONS:  # what is needed may need more
        needed |= {name for given in needed for name in OPTIONS[given].needs[:1]}
    given = {name: VALUES[name] for name in needed}
    return ExportOptions.from_keywords("m.pth", given.pop("arch", None), **given)


def test_every_option_has_a_value_here_and_is_seen_as_given():
    assert set(VALUES) == set(OPTIONS)
    for name in VALUES:
        assert name in options_of(name).given, name
    assert ExportOptions(checkpoint=Path("m.pth")).given == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_taken_for_its_kinds_and_refused_for_the_others(name, kind):
    options = options_of(name)
    if not OPTIONS[name].input_kinds or kind in OPTIONS[name].input_kinds:
        options.check(kinds=(kind,))
        return
    with pytest.raises(ExportError) as caught:
        options.check(kinds=(kind,))
    assert str(caught.value).startswith(f"{flag_of(name, OPTIONS[name])}: is for ")
    assert f"this model takes {NOUNS[kind]}. Leave it out" in str(caught.value)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", sorted(set(OPTIONS) - {"task"}))
def test_an_option_is_taken_for_its_tasks_and_refused_for_the_others(name, task):
    options = options_of(name)
    if not OPTIONS[name].tasks or task in OPTIONS[name].tasks:
        options.check(task=task)
        return
    with pytest.raises(ExportError, match=rf"{flag_of(name, OPTIONS[name])}: is for --task .*the task is {task}\."):
        options.check(task=task)


@pytest.mark.parametrize("name", OPTIONS)
def test_two_options_go_together(name):
    for other in set(OPTIONS) - {"task"}:
        if name == "task":
            continue
        if "parts" in {name, other} and any(map(contradicts_parts, (name, other))):
            with pytest.raises(ExportError):
                options_of(name, other)
            continue
        options_of(name, other).check()


def contradicts_parts(name: str) -> bool:
    """Return whether an option states a single input, or a variant, which a network of several parts has not."""
    return is_of_part(name, OPTIONS[name]) or "precision" in (name, *needed_by(name))


def needed_by(name: str) -> set[str]:
    """Return the options without which an option has no effect, and theirs."""
    direct = set(OPTIONS[name].needs)
    return direct.union(*map(needed_by, direct))


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.needs])
def test_an_option_without_its_companion_is_refused(name):
    with pytest.raises(ExportError, match=r"has no effect without --\w+\. Pass that as well"):
        ExportOptions.from_keywords("m.pth", **{name: VALUES[name]}).check()


def attributes_read(*paths: Path) -> set[str]:
    """Return the attributes of 'options' that files read."""
    return {
        node.attr
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "options"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_says_which_options_the_code_of_a_kind_reads(kind):
    """An option that the table allows for a kind has an effect there, and no other is read there."""
    read = attributes_read(*(ROOT / "exporter" / "inputs" / kind).rglob("*.py")) & set(OPTIONS)
    # Several kinds take these, each in its own form; 'parity' hands the last to the kind as an argument.
    shared = {"preprocess", "inputs", "thorough"}

    assert {name for name in read if OPTIONS[name].input_kinds} - shared == {
        name for name, option in OPTIONS.items() if kind in option.input_kinds
    } - shared


@pytest.mark.parametrize("task", ["multilabel", "regress", "segment", "tokens"])
def test_the_table_says_which_options_the_code_of_a_task_reads(task):
    read = attributes_read(ROOT / "exporter" / "outputs" / f"{task}.py")
    of_tasks = {about.name for about in fields(TaskOptions)} - {"task"}

    assert read & of_tasks == {name for name in of_tasks if task in OPTIONS[name].tasks}


@pytest.mark.parametrize(
    ("arch", "given", "problem"),
    [
        (
            "resnet18",
            {"vocabulary": "no-such-file"},
            "--vocabulary: is for token sequences, and this model takes images",
        ),
        ("net.py:Net", {"text_pairs": True}, "--text-pairs: is for texts, and this model takes images"),
        ("resnet18", {"thresholds": 0.9}, "--thresholds: is for --task multilabel, and the task is classify"),
        ("resnet18", {"target_mean": 3}, "--target-mean: is for --task regress, and the task is classify"),
        (
            "net.py:Net",
            {"inputs": "x=float32[batch,3]", "crop": 3},
            "--crop: is for images, and this model takes arrays",
        ),
        (None, {"pad_id": 0}, "--pad-id: is for token sequences, and this model takes images or texts"),
        (
            "net.py:Net",
            {"tokenizer": "t.json", "preprocess": "v.py:t"},
            "--preprocess: is for images or rows",
        ),
        ("hf:folder", {"columns": "a"}, "--columns: is for rows of a table"),
    ],
)
def test_an_export_is_refused_before_anything_is_read(arch, given, problem):
    options = ExportOptions.from_keywords("m.pth", arch, **given)

    with pytest.raises(ExportError, match=problem):
        options.check_export()


@pytest.mark.parametrize(
    ("arch", "given"),
    [
        ("hf:folder", {"thresholds": 0.9}),  # its configuration may say multi_label_classification
        ("hf:folder", {"text_pairs": True}),
        ("net.py:Net", {"inputs": "x=tokens[batch,length]", "end_id": 2}),  # the network may give sequences
        ("net.py:Net", {"preprocess": "scaler.skops", "columns": "a", "task": "regress", "target_mean": 3}),
    ],
)
def test_what_the_network_decides_is_left_to_it(arch, given):
    ExportOptions.from_keywords("m.pth", arch, **given).check_export()


def test_a_fitted_target_transform_has_the_scaling_in_it():
    with pytest.raises(ExportError, match="cannot be combined with --target-mean"):
        ExportOptions.from_keywords("m.pth", task="regress", target_transform="fitted.skops", target_std=2)
    ExportOptions.from_keywords("m.pth", task="regress", target_transform="log", target_std=2)
