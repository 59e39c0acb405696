"""The command line and Python take the same options: the fields of ExportOptions and TaskOptions."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from exporter import ExportError, ExportOptions, TaskOptions
from exporter.cli import synonyms
from exporter.cli.options import named, takes_options
from exporter.options.rules import Option, flag_of, option_fields
from runtime.cli.parsing import Command
from runtime.manifest import Value

NOT_OPTIONS = {"checkpoint", "part", "task_options", "tokenizer_input"}


@pytest.fixture
def read():
    """Run a command with all options, and return what it was given."""
    seen: list[ExportOptions | None] = []
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @takes_options(lambda _name, _option: True, checkpoint=Annotated[Path | None, typer.Argument()], complete=True)
    def command(*, options: ExportOptions | None) -> None:
        seen.append(options)

    def run(*arguments: str) -> ExportOptions | None:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return seen.pop()

    run.app = app
    return run


def test_every_field_is_an_option_with_a_help_text():
    names = {field.name for kind in (ExportOptions, TaskOptions) for field in fields(kind)} - NOT_OPTIONS
    options = {field.name: field.metadata["option"] for field in option_fields(ExportOptions)}

    assert set(options) == names
    assert all(isinstance(option, Option) and option.help.endswith(".") for option in options.values())


def test_what_the_command_line_says_is_what_python_says(read):
    options = read(
        *("m.pth", "--arch", "net.py:Net", "--arch-arg", "width=3", "--arch-arg", "mode=fast", "--resize", "40x50"),
        *("--mean", "0.5,0.4,0.3", "--std", "1,1,1", "--interpolation", "bicubic", "--exif"),
        *("--task", "regress", "--values", "price=EUR,area", "--target-mean", "2"),
        *("--trust", "--import", "lib", "--max-ratio", "4"),
    )

    assert options == ExportOptions.from_keywords(
        "m.pth",
        "net.py:Net",
        arguments={"width": 3, "mode": "fast"},
        resize=(40, 50),
        mean=[0.5, 0.4, 0.3],
        std=[1, 1, 1],
        interpolation="bicubic",
        task="regress",
        values=[Value(name="price", unit="EUR"), Value(name="area")],
        target_mean=[2.0],
        exif=True,
        trust=True,
        imports=["lib"],
        max_ratio=4.0,
    )
    assert read("m.pth", "--arch", "a", "--input", "x=float32[batch,3]", "--labels", "names.txt") == (
        ExportOptions.from_keywords("m.pth", "a", inputs=["x=float32[batch,3]"], labels="names.txt")
    )


def test_nothing_said_is_every_default(read):
    assert read("m.pth") == ExportOptions(checkpoint=Path("m.pth"))


def test_without_a_checkpoint_there_are_no_options(read):
    assert read() is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--resize", "12x"], "expected a size or HEIGHTxWIDTH, got '12x'"),
        (["--mean", "a,b"], "expected numbers separated by commas, got 'a,b'"),
        (["--arch-arg", "width"], "expected KEY=VALUE, got 'width'"),
        (["--colors", "no-color", "--task", "segment"], "expected colors such as black"),
        (["--task", "guess"], "'guess' is not one of"),
        (["--interpolation", "cubic"], "'cubic' is not one of"),
        (["--preprocess", "t.skops", "--crop", "3"], "--crop: is for images, and this model takes rows of a table"),
        (["--arch", "resnet18", "--colors", "red"], "is for --task segment"),
        (["--arch", "resnet18", "--vocabulary", "no-such-file"], "is for token sequences, and this model takes images"),
        (["--import", "lib"], "has no effect without --trust"),
        (
            ["--task", "regress", "--target-transform", "fitted.skops", "--target-mean", "1"],
            "cannot be combined with --target-mean",
        ),
    ],
)
def test_a_wrong_value_is_wrong_usage_and_named(read, arguments, reason):
    result = CliRunner().invoke(read.app, ["m.pth", *arguments])

    assert result.exit_code == 2
    assert reason in " ".join(result.output.replace("│", "").split())


def test_an_unknown_keyword_says_which_is_close():
    with pytest.raises(ExportError, match=r"unknown option 'prepocess'\. Did you mean 'preprocess'\?"):
        ExportOptions.from_keywords("m.pth", prepocess="x")


def test_a_command_may_take_some_options():
    assert [
        field.name
        for field in option_fields(ExportOptions)
        if named({"trust", "arch"})(field.name, field.metadata["option"])
    ] == [
        "arch",
        "trust",
    ]


def test_python_takes_texts_as_the_command_line_does_and_names_the_option_of_a_wrong_one():
    options = ExportOptions.from_keywords(
        "m.pth", task="regress", values="price=EUR,area", target_mean="1,2", crop="224x160"
    )

    assert [(value.name, value.unit) for value in options.task_options.values] == [("price", "EUR"), ("area", "")]
    assert (options.task_options.target_mean, options.crop) == ((1.0, 2.0), (224, 160))
    with pytest.raises(ExportError, match=r"export\(\): crop: "):
        ExportOptions.from_keywords("m.pth", crop="wide")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"resize": 2.5}, "resize: expected int or list, got float. Correct it."),
        ({"resize": [1, 2, 3]}, "resize: expected list of length 2, got 3. Correct it."),
        ({"values": 3}, "values: expected list, got int. Correct it."),
        ({"arguments": [1]}, "arguments: expected dict, got list. Correct it."),
        ({"imports": 3}, "imports: expected list, got int. Correct it."),
        ({"imports": [3]}, "imports: expected a path, got int. Correct it."),
        ({"tokenizer": 5}, "tokenizer: expected a path, got int. Correct it."),
        ({"exif": "yes"}, "exif: expected bool, got str. Correct it."),
        ({"task": 3}, "task: expected str, got int. Correct it."),
        ({"task": "guess"}, "task: expected one of classify, binary"),
        ({"interpolation": "cubic"}, "interpolation: expected one of nearest, "),
        ({"max_ratio": 0.1}, "max_ratio: expected 1 or more, got 0.1. Correct it."),
        ({"colors": [(1, 2)]}, "colors: expected list of length 3, got 2 at `[0]`. Correct it."),
        ({"task_options": 3}, "task_options: expected TaskOptions, got int. Correct it, or pass its fields by name."),
    ],
)
def test_a_value_of_the_wrong_type_is_a_sentence(given, problem):
    with pytest.raises(ExportError) as caught:
        ExportOptions.from_keywords("m.pth", "resnet18", **given)

    assert str(caught.value).startswith(f"export(): {problem}")


def test_a_checkpoint_in_memory_is_refused_with_the_way_to_save_it():
    with pytest.raises(ExportError, match=r"checkpoint: expected the path of a file or folder, got dict\. Save the"):
        ExportOptions.from_keywords({"fc.weight": 1})


def test_python_may_give_one_for_a_sequence_of_one_and_arrays_for_lists():
    options = ExportOptions.from_keywords(
        "m.pth", inputs="x=float32[batch,3]", imports="lib", trust=True, task="multilabel", thresholds=0.9, crop=None
    )

    assert (options.inputs, options.imports) == (("x=float32[batch,3]",), (Path("lib"),))
    assert (options.task_options.thresholds, options.crop) == ((0.9,), None)
    assert ExportOptions.from_keywords("m.pth", mean=np.array([0.5, 0.25]), std=np.int64(1)).mean == (0.5, 0.25)


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("1..4096", {"": (1, 4096)}),
        ("time=1..4096,width = 8..64", {"time": (1, 4096), "width": (8, 64)}),
    ],
)
def test_lengths_are_read_for_all_dimensions_or_by_name(read, text, lengths):
    assert read("model.pth", "--input", "x=float32[batch,time,width]", "--lengths", text).lengths == lengths
    assert ExportOptions.from_keywords("model.pth", lengths=text).lengths == lengths


@pytest.mark.parametrize("text", ["4096", "0..5", "9..3", "time", "time=..4", "1..x"])
def test_what_is_no_range_of_lengths_is_named(read, text):
    result = CliRunner().invoke(read.app, ["model.pth", "--input", "x=float32[batch,time]", "--lengths", text])
    assert result.exit_code == 2
    assert "expected LOW..HIGH" in result.output


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("--transform", "--preprocess"),
        ("--image-mode", "--channels"),
        ("--bgr", "--channels bgr"),
        ("--achr", "--arch"),
    ],
)
def test_options_of_other_tools_are_refused_with_ours(name, ours):
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command(cls=Command)
    @takes_options(lambda _name, _option: True, checkpoint=Annotated[Path, typer.Argument()])
    def command(*, options: ExportOptions) -> None: ...

    result = CliRunner().invoke(app, ["m.pth", name, "x"], env={"COLUMNS": "200"})

    assert result.exit_code == 2
    assert f"No such option: {name} (Possible options: {ours}" in result.output


def test_a_name_of_other_tools_is_none_of_ours_and_stands_for_an_option_that_there_is():
    flags = {flag_of(about.name, about.metadata["option"]) for about in option_fields(ExportOptions)}

    named = [name for names in synonyms._NAMES.values() for name in names]
    assert len(set(named)) == len(named)
    assert not flags & set(named)
    assert {ours.partition(" ")[0] for ours in synonyms._NAMES} <= flags
