"""Lines of lists and cells of tables: paths, URLs and base64, in every locale."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import InputError
from runtime.inputs.image.source import FORMAT
from runtime.inputs.source import Remote, beside, path_from_line

LONG = b"\xff\xd8" + b"x" * 5000


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (base64.b64encode(LONG).decode(), LONG),
        ("data:image/jpeg;base64,/9j/", b"\xff\xd8\xff"),
        ("DATA:image/jpeg;name=a.jpg;BASE64,/9j/", b"\xff\xd8\xff"),
        ("data:,a%20b", b"a b"),
        ("a.jpg", Path("a.jpg")),
        ("s3://bucket/a.jpg?region=x", Remote("s3://bucket/a.jpg?region=x")),
    ],
)
def test_a_line_is_a_path_or_a_url_or_base64(line, expected):
    name, source = path_from_line(line, "list.txt#1")

    assert source == expected
    assert len(name) <= 200


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x" * 4095 + "! ", "not a path: expected at most 4096 characters, or base64, got 4097"),
        ("data:image/jpeg;base64,!", "not base64"),
        ("data:," + "%41" * 400_000, "too long for a percent-encoded URL"),
        ("ftp://a.example/x.jpg", "URLs of 'ftp' are not read: expected a file, or a URL such as s3://"),
    ],
)
def test_a_line_of_none_of_these_forms_says_what_is_expected(line, problem):
    error = path_from_line(line, "list.txt#1")[1]

    assert isinstance(error, InputError)
    assert problem in str(error)


def test_a_path_that_leads_nowhere_from_here_is_looked_for_beside_its_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("set/a.jpg", "set/both.jpg", "both.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"")

    def found(name: str) -> object:
        return beside((name, Path(name)), Path("set"))[1]

    assert found("a.jpg") == Path("set/a.jpg")
    assert found("both.jpg") == Path("both.jpg")
    assert found("none.jpg") == Path("none.jpg")
    assert beside(("a.jpg", Path("a.jpg")), None)[1] == Path("a.jpg")


def test_a_cell_of_a_data_set_may_hold_the_path_of_its_image_alone():
    assert FORMAT.from_row({"image": {"bytes": None, "path": "a.jpg"}}, None, "t#1") == ("a.jpg", Path("a.jpg"))
    assert FORMAT.from_row({"image": {"bytes": b"x", "path": "a.jpg"}}, None, "t#1") == ("a.jpg", b"x")
    assert isinstance(FORMAT.from_row({"image": {"bytes": None, "path": None}}, None, "t#1")[1], InputError)


def test_utf8_names_files_and_is_text_in_a_locale_that_has_not_its_letters(tmp_path):
    (tmp_path / "猫.jpg").write_bytes(b"")
    code = (
        "import io, os; from runtime.inputs.image.source import FORMAT; from runtime.jobs.sources import read_sources\n"
        "from runtime.inputs.source import value_from_line\n"
        "((name, path),) = read_sources(['-'], FORMAT, stdin=io.BytesIO('猫.jpg'.encode()))\n"
        "print(ascii(name), path.exists())\n"
        "print(value_from_line(os.fsdecode(b'H\\xc3\\xa4user'), 'x')[1])\n"
        "print(value_from_line(os.fsdecode(b'H\\xe4user'), 'x')[1])"
    )
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code.replace("猫", r"\u732b")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **locale},
        check=False,
    )

    name, text, other = ran.stdout.splitlines()
    assert name == "'\\u732b.jpg' True", ran.stderr
    assert text == r"b'H\xc3\xa4user'"
    assert "not text: expected UTF-8, got byte 0xe4" in other
