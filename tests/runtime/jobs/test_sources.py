"""Inputs of a job, with their names and in a fixed order."""

import io
import os
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import runtime
from runtime.inputs.folders import FIRST_LINE, FOLDER_OF_GLOB, LeftOut
from runtime.inputs.image import source as image
from runtime.inputs.registry import source_format_of
from runtime.inputs.tabular import source as tabular
from runtime.inputs.tabular.tables import READERS
from runtime.inputs.tensor import source as tensor
from runtime.inputs.text import source as text
from runtime.inputs.tokens import source as tokens
from runtime.jobs.sources import count_inputs, read_sources
from runtime.jobs.urls import read_url
from runtime.manifest import TensorInput, TextInput

IMAGE = image.FORMAT
FORMATS = {"tensor": tensor.FORMAT, "tabular": tabular.FORMAT, "text": text.FORMAT, "tokens": tokens.FORMAT}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/z.webp", "deep/er/y.gif", "a/x.jpg", "c.jpg/inside.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(arguments, **options):
    return [name for name, _ in read_sources(arguments, IMAGE, **options)]


def test_a_folder_is_searched_at_any_depth_in_the_order_of_names(folder):
    expected = ["./a/x.jpg", "./a.PNG", "./b.jpg", "./c.jpg/inside.jpg", "./deep/er/y.gif", "./deep/z.webp"]

    assert names(["."]) == expected
    assert names([f"{folder}/"]) == [f"{folder}{name[1:]}" for name in expected]


@pytest.mark.parametrize(
    "address", ["http://a.example/x.jpg?key=s3cret", "HTTPS://a.example/photos", "https://a.example/l.csv"]
)
def test_an_address_of_the_web_says_what_to_do(address):
    ((name, error),) = read_sources([address], IMAGE)

    assert name == address.partition("?")[0]
    assert "s3cret" not in str(error)
    assert "from where nothing is fetched" in str(error)
    assert "curl -O" in str(error)


def test_what_is_no_input_and_no_table_that_is_read_says_what_to_do(folder):
    for name, fix in (("photos.zip", "Unpack it"), ("rows.csv.gz", "Unpack it"), ("rows.xlsx", "Save it as one of")):
        (folder / name).write_bytes(b"PK")

        for source_format in (IMAGE, *FORMATS.values()):
            ((_, error),) = read_sources([name], source_format)
            assert fix in str(error)


def test_a_url_of_a_local_file_may_be_percent_encoded(folder):
    pytest.importorskip("pyarrow")
    (folder / "two words.jpg").write_bytes(b"one")
    (folder / "50%25.jpg").write_bytes(b"two")

    assert read_url(f"file://{folder}/two%20words.jpg") == read_url(f"file://{folder}/two words.jpg") == b"one"
    assert read_url(f"file://{folder}/50%25.jpg") == b"two"


def test_a_folder_that_links_to_itself_ends(folder):
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "link.jpg").symlink_to(folder / "b.jpg")

    assert "./link.jpg" in names(["."])
    assert len(names(["."])) == 7


def test_files_globs_and_lists_keep_the_order_they_are_given_in(folder):
    (folder / "list.txt").write_text("missing.jpg\n\na/x.jpg\r\n")

    assert names(["b.jpg", "deep/**/*.gif", "list.txt", "b.jpg"]) == [
        "b.jpg",
        "deep/er/y.gif",
        "missing.jpg",
        "a/x.jpg",
        "b.jpg",
    ]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(folder):
    (folder / "[1].jpg").write_bytes(b"")

    assert names(["[1].jpg"]) == ["[1].jpg"]


def test_a_dash_reads_lines_from_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"one.jpg\ntwo words.jpg")))

    assert names(["-"]) == ["one.jpg", "two words.jpg"]
    assert count_inputs(["-"], IMAGE) is None


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet?region=eu", "list.txt"])
def test_what_a_url_has_is_not_fetched_only_to_be_counted(name):
    assert count_inputs(["a.jpg", f"s3://nowhere/{name}"], IMAGE) is None


def test_a_name_that_is_not_utf8_is_readable_and_its_file_is_found(folder):
    path = os.fsencode(folder) + b"/caf\xe9.jpg"
    Path(os.fsdecode(path)).write_bytes(b"")

    found = {name: source for name, source in read_sources(["."], IMAGE) if "caf" in name}

    assert list(found) == ["./caf\\xe9.jpg"]
    assert found["./caf\\xe9.jpg"].exists()


@pytest.mark.parametrize("argument", ["empty", "*.bmp", "none.txt", "none.csv"])
def test_nothing_where_something_was_named_is_an_error(folder, argument):
    (folder / "empty").mkdir()
    (folder / "none.txt").write_text("")
    (folder / "none.csv").write_text("path\n")

    with pytest.raises(runtime.InputError, match="expected at least one input, got none"):
        names([argument])


def test_counting_is_reading(folder):
    (folder / "table.csv").write_text("path\na.PNG\nb.jpg\n")

    assert count_inputs([".", "table.csv", "x.jpg"], IMAGE) == 9


def test_tables_give_the_named_column_the_only_one_or_the_usual_one(folder):
    (folder / "only.csv").write_text("anything\nb.jpg\n")
    (folder / "usual.tsv").write_text("id\tpath\n7\tb.jpg\n")
    (folder / "named.jsonl").write_text('{"before": "x.jpg", "after": "b.jpg"}\n')

    assert names(["only.csv"]) == names(["usual.tsv"]) == names(["named.jsonl"], column="after") == ["b.jpg"]


@pytest.mark.parametrize("column", [None, "sideways"])
def test_a_column_that_cannot_be_told_is_asked_for(folder, column):
    (folder / "table.csv").write_text("before,after\nx.jpg,y.jpg\n")

    with pytest.raises(runtime.InputError, match="'before', 'after'"):
        names(["table.csv"], column=column)


def test_one_bad_row_costs_only_itself(folder):
    (folder / "rows.jsonl").write_text('{"path": "a.jpg"}\nnonsense\n{"path": 7}\n{"other": ""}\n{"path": "b.jpg"}\n')
    (folder / "rows.csv").write_text("path,n\na.jpg,1\nb.jpg,2,3\n,4\nc.jpg,5\n")

    rows = list(read_sources(["rows.jsonl", "rows.csv"], IMAGE, column="path"))

    assert [name for name, _ in rows] == [
        "a.jpg",
        "rows.jsonl#2",
        "rows.jsonl#3",
        "rows.jsonl#4",
        "b.jpg",
        "a.jpg",
        "rows.csv#2",
        "rows.csv#3",
        "c.jpg",
    ]
    bad = [str(value) for _, value in rows if isinstance(value, runtime.InputError)]
    assert len(bad) == 5
    assert "line 2: not JSON" in bad[0]
    assert "got 7" in bad[1]
    assert "no column 'path'" in bad[2]
    assert "too many values: expected 2, got 3" in bad[3]
    assert "got ''" in bad[4]


def test_parquet_rows_hold_paths_or_bytes(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"image": ["a.jpg", "b.jpg"], "n": [1, 2]}), "paths.parquet")
    images = [{"bytes": b"abc", "path": "inside.jpg"}, {"bytes": b"def", "path": None}]
    parquet.write_table(pyarrow.table({"image": images}), "bytes.parquet")

    rows = list(read_sources(["paths.parquet", "bytes.parquet"], IMAGE))

    assert rows == [
        ("a.jpg", Path("a.jpg")),
        ("b.jpg", Path("b.jpg")),
        ("inside.jpg", b"abc"),
        ("bytes.parquet#2", b"def"),
    ]


def test_a_file_that_is_not_parquet_is_named(folder):
    pytest.importorskip("pyarrow")
    (folder / "bad.parquet").write_bytes(b"PAR1 not really")

    with pytest.raises(runtime.InputError, match=r"'bad\.parquet': not a Parquet file"):
        names(["bad.parquet"])


def test_without_pyarrow_the_error_has_the_command(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"")
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from runtime.inputs.tabular.tables import import_parquet\n"
        "from runtime.jobs.urls import read_url\n"
        "for read, name in ((import_parquet, 'x.parquet'), (read_url, 's3://a/b')):\n"
        "    try: read(name)\n"
        "    except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == (
        "InputError 'x.parquet': Parquet needs pyarrow. Run: pip install 'truecopy[parquet]'\n"
        "InputError 's3://a/b': URLs need pyarrow. Run: pip install 'truecopy[parquet]'\n"
    )


def test_every_kind_of_input_has_its_place_in_lists_and_tables(folder):
    (folder / "rows.csv").write_text("age,text,tokens\n7,hello,x\n")
    (folder / "lines.txt").write_text('{"age": 7}\n')
    (folder / "tokens.jsonl").write_text('{"tokens": [3, 1, 2]}\n')
    (folder / "a.npy").write_bytes(b"")

    def found(kind, argument, **options):
        return list(read_sources([argument], FORMATS[kind], **options))

    assert found("tabular", "rows.csv") == [("rows.csv#1", {"age": "7", "text": "hello", "tokens": "x"})]
    assert found("tabular", "lines.txt") == [("lines.txt#1", b'{"age": 7}')]
    assert found("text", "rows.csv") == [("rows.csv#1", "hello")]
    assert found("text", "rows.csv", column="age") == [("rows.csv#1", "7")]
    assert found("text", "What is this?") == [("What is this?", "What is this?")]
    assert found("text", "long " * 1000) == [("long " * 1000, "long " * 1000)]
    assert found("tokens", "tokens.jsonl") == [("tokens.jsonl#1", [3, 1, 2])]
    assert found("tensor", ".") == [("./a.npy", Path("a.npy"))]


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("tabular", '[{"a": 1}, {"a": 2}]', [("x.json#1", {"a": 1}), ("x.json#2", {"a": 2})]),
        ("tabular", '{"a": 1}', [("x.json", Path("x.json"))]),
        ("text", '["one", "two"]', [("x.json#1", "one"), ("x.json#2", "two")]),
        ("text", '[["a", "b"]]', [("x.json#1", ["a", "b"])]),
        ("tokens", "[[3, 1], [2]]", [("x.json#1", [3, 1]), ("x.json#2", [2])]),
        ("tokens", "[3, 1, 2]", [("x.json", Path("x.json"))]),
        ("tabular", "no JSON", [("x.json", Path("x.json"))]),
    ],
)
def test_a_json_file_with_a_list_of_inputs_is_a_table(folder, kind, content, expected):
    (folder / "x.json").write_text(content)

    assert list(read_sources(["x.json"], FORMATS[kind])) == expected


@pytest.mark.parametrize("kind", ["tabular", "text", "tokens"])
@pytest.mark.parametrize("name", ["typo.csv", "typo.txt", "typo.json", "typo.parquet"])
def test_a_misspelt_file_is_no_text(folder, kind, name):
    ((subject, error),) = read_sources([name], FORMATS[kind])

    assert subject == name
    assert str(error) == f"'{name}': no such file. Check the path."
    assert dict(read_sources(["See notes.txt"], FORMATS["text"])) == {"See notes.txt": "See notes.txt"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_and_tables_of_other_programs_are_read_by_their_mark(folder, encoding):
    """As Windows and spreadsheets write them; the name of the first file has no mark in it."""
    for name, content in {"list.txt": "b.jpg\r\na.PNG\r\n", "table.csv": "path\r\nb.jpg\r\na.PNG\r\n"}.items():
        (folder / name).write_bytes(content.encode(encoding))
    for name, content in {
        "texts.txt": "one\ntwo\n",
        "rows.jsonl": '"one"\n"two"\n',
        "a.json": '["one", "two"]',
    }.items():
        (folder / name).write_bytes(content.encode(encoding))

    assert names(["list.txt"]) == names(["table.csv"]) == ["b.jpg", "a.PNG"]
    assert names(["-"], stdin=io.BytesIO("b.jpg\n".encode(encoding))) == ["b.jpg"]
    for name in ("texts.txt", "rows.jsonl", "a.json"):
        assert [text for _, text in read_sources([name], FORMATS["text"])] == ["one", "two"]


def test_a_list_that_find_print0_wrote_is_an_error_that_says_so(folder):
    ((name, error),) = read_sources(["-"], IMAGE, stdin=io.BytesIO(b"a.PNG\0b.jpg\0"))

    assert name == "stdin#1"
    assert "list files with -print, not -print0" in str(error)


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n", b"PK\x03\x04"])
def test_a_file_itself_on_stdin_is_one_error_and_no_list(content):
    with pytest.raises(runtime.InputError, match=r"stdin: a file itself: .* Save it, and name the file instead of '-'"):
        names(["-"], stdin=io.BufferedReader(io.BytesIO(content)))


def test_a_closed_stdin_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)

    with pytest.raises(runtime.InputError, match=r"stdin: closed: expected one input per line"):
        names(["-"])


def test_a_line_that_is_longer_than_a_path_is_a_short_error(folder):
    (folder / "list.txt").write_text("b.jpg\n" + "no base64. " * 10_000 + "\n")

    (_, (name, error)) = read_sources(["list.txt"], IMAGE)

    assert name == "list.txt#2"
    assert len(str(error)) < 200


def test_a_table_of_files_without_a_header_is_refused(folder):
    (folder / "bare.csv").write_text("b.jpg\na.PNG\n")
    (folder / "one.csv").write_text("b.jpg\n")

    with pytest.raises(
        runtime.InputError, match=r"'bare.csv': no header: .* got 'b.jpg'. Add a first line such as 'pa"
    ):
        names(["bare.csv"])
    with pytest.raises(runtime.InputError, match=r"'one.csv': no rows in this table, whose first line names its col"):
        names(["one.csv"])


def test_what_is_not_read_is_counted(folder):
    left_out = LeftOut()
    (folder / "texts.csv").write_text("a good film\na bad film\n")
    (folder / "named.csv").write_text("sentence\na bad film\n")

    list(read_sources(["."], IMAGE, left_out=left_out))
    list(read_sources(["*.jpg"], IMAGE, left_out=left_out))
    list(read_sources(["texts.csv", "named.csv"], FORMATS["text"], left_out=left_out))

    assert dict(left_out.counts) == {".csv files": 2, ".txt files": 1, FOLDER_OF_GLOB: 1, FIRST_LINE: 1}


def test_a_table_whose_end_is_damaged_gives_the_rows_before_it(folder, monkeypatch):
    def read(path):
        yield {"path": "b.jpg"}
        raise zlib.error("incorrect data check")

    monkeypatch.setitem(READERS, ".csv", read)
    (folder / "x.csv").write_text("")

    (first, (name, error)) = read_sources(["x.csv"], IMAGE)

    assert first == ("b.jpg", Path("b.jpg"))
    assert name == "x.csv#2"
    assert "'x.csv', from here on: damaged" in str(error)


def test_an_array_with_a_batch_dimension_is_an_input_an_entry(folder):
    kind = source_format_of([TensorInput(name="x", dtype="float32", shape=("batch", 2))])
    for name, shape in (("many", (3, 2)), ("one", (2,)), ("batch_of_one", (1, 2))):
        np.save(folder / f"{name}.npy", np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    (folder / "torn.npy").write_bytes((folder / "many.npy").read_bytes()[:50])

    found = list(read_sources(["many.npy"], kind))

    assert [name for name, _ in found] == ["many.npy#1", "many.npy#2", "many.npy#3"]
    assert [array.tolist() for _, array in found] == [[0, 1], [2, 3], [4, 5]]
    np.save(folder / "endless.npy", np.empty((10**12, 0), np.float32))

    for name in ("one.npy", "batch_of_one.npy", "torn.npy", "endless.npy"):
        assert list(read_sources([name], kind)) == [(name, Path(name))]


def test_a_pair_of_texts_is_two_columns_of_a_table(folder):
    (folder / "pairs.csv").write_text("id,first,second\n1,a,b\n")

    assert list(read_sources(["pairs.csv"], FORMATS["text"], column="first,second")) == [("pairs.csv#1", ["a", "b"])]
    (folder / "two.csv").write_text("first,second\na,b\n")
    spec = TextInput(name="text", tokenizer="tokenizer.json", arrays=("input_ids",), max_length=8, pairs=True)
    kind = source_format_of([spec])
    assert list(read_sources(["two.csv"], kind)) == [("two.csv#1", ["a", "b"])]
    with pytest.raises(runtime.InputError, match=r"which columns\? expected --column FIRST,SECOND"):
        list(read_sources(["pairs.csv"], kind))
    with pytest.raises(runtime.InputError, match="no column 'third'"):
        list(read_sources(["pairs.csv"], FORMATS["text"], column="first,third"))
