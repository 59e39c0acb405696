"""Text that comes in as bytes: UTF-8 and UTF-16 by their marks, anything else an error that names it."""

import io
import time

import pytest

from runtime.errors import InputError
from runtime.inputs.encoding import MAX_LINE_CHARACTERS, check_unicode, decode_text, read_lines, text_lines
from runtime.inputs.tabular.tables import read_csv, read_jsonl

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")


def big_endian(text: str) -> bytes:
    return b"\xfe\xff" + text.encode("utf-16-be")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_mark_is_no_part_of_the_text(encoding):
    assert decode_text("na\u00efve\U0001f600".encode(encoding), "'x'") == "na\u00efve\U0001f600"
    assert list(read_lines(io.BytesIO("na\u00efve\r\n\nend".encode(encoding)), "'x'")) == ["na\u00efve", "", "end"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_do_for_python(end, tmp_path):
    data = f"good{end}{end}na\u00efve\u2028text{end}".encode()
    (tmp_path / "x.txt").write_bytes(data)

    with (tmp_path / "x.txt").open(encoding="utf-8") as stream:
        expected = [line.rstrip("\n") for line in stream]

    assert list(read_lines(io.BytesIO(data), "'x'")) == expected == ["good", "", "na\u00efve\u2028text"]


def test_utf16_of_either_order_is_read():
    assert decode_text(big_endian("good"), "'x'") == "good"
    assert list(read_lines(io.BytesIO(big_endian("good\nbad\n")), "'x'")) == ["good", "bad"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("caf\u00e9".encode("latin-1"), "expected UTF-8, got byte 0xe9 at position 3. Save it as UTF-8."),
        (b"\xff\xfea", "expected UTF-16, got byte 0x61"),
        ("good".encode("utf-16-le"), "a null character at position 1"),
        ("good".encode("utf-32"), "got UTF-32. Save it as UTF-8."),
    ],
)
def test_bytes_of_another_encoding_are_an_error_that_says_what_to_do(data, problem):
    with pytest.raises(InputError, match=f"^'x': not text: .*{problem}"):
        decode_text(data, "'x'")


def test_a_null_character_in_a_text_is_kept():
    """Tokenizers know what to do with it; only UTF-16 without its mark has one in most characters."""
    assert decode_text(b"zero \0 width", "'x'") == "zero \0 width"
    with pytest.raises(InputError, match="a null character at position 0"):
        decode_text("good".encode("utf-16-be"), "'x'")


def test_a_line_that_is_no_text_costs_only_itself():
    lines = list(read_lines(io.BytesIO(b"a\nb\0c\nd\xe9\ne"), "'x'"))

    assert [line for line in lines if isinstance(line, str)] == ["a", "d\udce9", "e"]
    assert "'x', line 2: not text: a null character at position 1" in str(lines[1])
    with pytest.raises(InputError, match="'x': not text: expected UTF-8, got byte 0xe9 at character 1"):
        check_unicode(str(lines[2]), "'x'")


def test_a_torn_end_of_utf16_is_an_error_after_the_lines_before_it():
    *whole, torn = read_lines(io.BytesIO("a\nb\n".encode("utf-16") + b"c"), "'x'")

    assert whole == ["a", "b"]
    assert "'x', line 3: not text: expected UTF-16" in str(torn)


def test_a_line_without_an_end_is_not_read_into_memory(monkeypatch):
    monkeypatch.setattr("runtime.inputs.encoding.MAX_LINE_CHARACTERS", 8)

    short, long, last = read_lines(io.BytesIO(b"123456\n" + b"x" * 100 + b"\nlast"), "'x'")

    assert (short, last) == ("123456", "last")
    assert "'x', line 2: too long: expected fewer than 8 characters" in str(long)
    assert MAX_LINE_CHARACTERS == 2**26


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_that_are_not_blank_are_the_same_in_every_encoding(tmp_path, encoding):
    (tmp_path / "list.txt").write_bytes(" größer\r\n\r\nline\u2028separator\r\n".encode(encoding))

    assert text_lines(tmp_path / "list.txt") == ["größer", "line\u2028separator"]


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_a_sparse_file_of_gigabytes_ends_at_its_first_line(tmp_path, suffix):
    path = tmp_path / f"sparse{suffix}"
    with path.open("wb") as stream:
        stream.truncate(8 * 2**30)
    started = time.monotonic()
    if suffix == ".txt":
        with path.open("rb") as stream:
            (line,) = read_lines(stream, "'x'")
        assert "null character" in str(line)
    elif suffix == ".csv":
        with pytest.raises(InputError, match="null character"):
            list(read_csv(path))
    else:
        (row,) = read_jsonl(path)
        assert "null character" in str(row)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_of_little_but_empty_lines_is_not_read_to_its_end(monkeypatch, tmp_path, suffix):
    monkeypatch.setattr("runtime.inputs.encoding._MOST_EMPTY_LINES", 100)
    row = {".csv": "1\n", ".jsonl": '{"a": 1}\n'}[suffix]
    read = {".csv": read_csv, ".jsonl": read_jsonl}[suffix]
    path = tmp_path / f"x{suffix}"

    path.write_text(("a\n" if suffix == ".csv" else "") + f"{row}\n" * 500)
    assert len(list(read(path))) == 500, "one for each other line"

    path.write_text(("a\n" if suffix == ".csv" else "") + row + "\n" * 10_000 + row)
    *rows, error = read(path)
    assert len(rows) == 1
    assert "more than 100 empty lines, and few others: nothing more was read" in str(error)
