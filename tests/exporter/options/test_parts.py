"""Options of parts: as the command line and Python state them, and what is refused before anything is loaded."""

import pytest

from exporter.cli.preflight import check_export
from exporter.errors import ExportError
from exporter.options.export import ExportOptions
from exporter.options.parts import read_parts


def options(**keywords):
    return ExportOptions.from_keywords("m.pth", "net.py:Net", **keywords)


def test_the_command_lines_texts_and_pythons_objects_are_the_same_options(tmp_path):
    texts = ["photo=val.py:transform", "photo.exif=true", "row.preprocess=columns.skops", "row.columns=age,city"]
    texts += ["wave.input=float32[batch,8]", "text.tokenizer=folder", "text.max-length=16", "left.resize=64x48"]

    stated = options(parts=read_parts(texts))

    assert stated.of_part("photo").preprocess == "val.py:transform"
    assert stated.of_part("photo").exif is True
    assert stated.of_part("row").columns == ("age", "city")
    assert stated.of_part("wave").inputs == ("wave=float32[batch,8]",)
    assert stated.of_part("text").max_length == 16
    assert stated.of_part("left").resize == (64, 48)
    assert stated == options(
        parts={
            "photo": {"transform": "val.py:transform", "exif": True},
            "row": {"preprocess": "columns.skops", "columns": ["age", "city"]},
            "wave": {"input": "float32[batch,8]"},
            "text": {"tokenizer": "folder", "max_length": 16},
            "left": {"resize": (64, 48)},
        }
    )


def test_a_part_is_its_transform_where_nothing_else_is_stated():
    assert options(parts={"photo": str, "row": "columns.skops"}).of_part("photo").preprocess is str


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photo", "expected NAME=TRANSFORM or NAME.OPTION=VALUE"),
        ("a b=x", "expected NAME=TRANSFORM"),
        ("photo.=x", "expected NAME=TRANSFORM"),
    ],
)
def test_a_text_that_states_no_part_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_parts([text])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"parts": {"a": "x.py:t", "b": {"opset": 17}}}, r"--part b\.opset: no option of an input: expected one of"),
        ({"parts": {"a": "x.py:t", "b": {"exif": "yes"}}}, r"--part b\.exif: expected true or false, got 'yes'"),
        ({"parts": {"a": "x.py:t", "b": {"max_length": "long"}}}, r"--part b\.max_length: expected a whole number"),
        ({"parts": {"a": "x.py:t", "b": {"input": "c=float32[batch,2]"}}}, r"--part b\.input: expected the name 'b'"),
        ({"parts": {"a": "x.py:t", "b": "y.py:t"}, "resize": 64}, r"--resize: .*Write it as --part NAME\.resize=VALUE"),
        ({"parts": {"a": "x.py:t", "b": "y.py:t"}, "precision": "int8"}, "--precision: no variant is made"),
    ],
)
def test_options_that_contradict_parts_are_refused(keywords, message):
    with pytest.raises(ExportError, match=message):
        options(**keywords)


def test_one_part_alone_is_refused_for_an_export_and_completed_from_an_artifact():
    alone = options(parts={"photo": "val.py:transform"})

    with pytest.raises(ExportError, match="'photo' alone: expected two parts or more"):
        alone.check_export()


def test_a_parts_file_that_is_missing_is_named_before_anything_is_loaded(tmp_path):
    checkpoint = tmp_path / "m.pth"
    checkpoint.write_bytes(b"")

    with pytest.raises(ExportError, match=r"columns\.skops': no such file or folder\. Check the path in --part"):
        check_export(
            ExportOptions.from_keywords(
                checkpoint, "torch.nn:Linear", parts={"x": str, "row": "columns.skops"}, out=tmp_path / "out"
            )
        )
