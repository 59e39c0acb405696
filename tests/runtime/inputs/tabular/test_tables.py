"""Files of rows: one dictionary a row, in order, and a bad line costs only itself."""

import json
import tracemalloc

import numpy as np
import pytest

import runtime
from runtime.inputs import decoder
from runtime.inputs.tabular import tables
from runtime.inputs.tabular.tables import MAX_CELL_CHARACTERS, MAX_COLUMNS, read_csv_text, read_rows

ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def write(path, suffix):
    file = path / f"rows{suffix}"
    match suffix:
        case ".csv":
            file.write_text('\ufeffa,b\n1,x\n2,"y"\n', encoding="utf-8")
        case ".jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        case ";.csv":  # as a spreadsheet writes it where the comma is for decimals
            file = path / "rows.csv"
            file.write_text("a;b\n1;x\n2;y\n")
        case ".json":
            file.write_text(json.dumps(ROWS))
        case ".parquet":
            pyarrow = pytest.importorskip("pyarrow")
            pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(ROWS), file)
    return file


@pytest.mark.parametrize("suffix", [".csv", ";.csv", ".jsonl", ".json", ".parquet"])
def test_every_format_gives_the_same_rows_in_order(suffix, tmp_path):
    file = write(tmp_path, suffix)

    rows = list(read_rows(file))

    assert [name for name, _ in rows] == [f"{file}#1", f"{file}#2"]
    assert [{"a": int(row["a"]), "b": row["b"]} for _, row in rows] == ROWS


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.csv", "a,b\n1,2\n3\n5,6\n", "line 3: too few values: expected 2, got 1"),
        ("x.csv", "a,b\n1,2\n3,4,5\n5,6\n", "line 3: too many values: expected 2, got 3"),
        ("x.csv", ",a\n0,1\n1,2,3\n2,3\n", "line 3: too many values: expected 2, got 3"),
        ("x.csv", 'a,b\n1,2\n3,"a "quoted" word"\n5,6\n', "line 3: not CSV: ',' expected after"),
        ("x.tsv", 'a\tb\n1\tthe "good"\n3\t"bad film\n5\t6\n', "line 3: not CSV: unexpected end of data"),
        ("x.csv", "a,b\n1,2\n3,\0\n5,6\n", "line 3: not text: a null character"),
        ("x.jsonl", '{"a": 1}\nnope\n{"a": 3}\n', "line 2: not JSON"),
        ("x.jsonl", '{"a": 1}\n' + "[" * 100_000 + '\n{"a": 3}\n', "line 2: not JSON"),
    ],
)
def test_a_bad_line_costs_only_itself(name, content, reason, tmp_path):
    (tmp_path / name).write_text(content)

    first, bad, last = [row for _, row in read_rows(tmp_path / name)]

    assert isinstance(first, dict)
    assert isinstance(last, dict)
    assert isinstance(bad, runtime.InputError)
    assert reason in str(bad)


def test_an_open_quote_takes_no_other_line_with_it(tmp_path):
    """Neither those that were read while looking for its end, nor one of them that is bad itself."""
    (tmp_path / "x.csv").write_bytes(b'a,b\n1,"two\nlines"\n\n"x,3\n4,5\n\0\n6,7\n')

    rows = [row for _, row in read_rows(tmp_path / "x.csv")]

    assert [row for row in rows if isinstance(row, dict)] == [
        {"a": "1", "b": "two\nlines"},
        {"a": "4", "b": "5"},
        {"a": "6", "b": "7"},
    ]
    assert "line 5: not CSV: a quote is not closed" in str(rows[1])
    assert "line 7: not text" in str(rows[3])


def test_cells_are_as_long_as_texts_may_be_up_to_a_limit(tmp_path):
    long, longest = "x" * 1_000_000, "y" * (MAX_CELL_CHARACTERS + 1)
    (tmp_path / "x.csv").write_text(f"a,b\n1,{long}\n2,{longest}\n3,z\n")

    first, bad, last = [row for _, row in read_rows(tmp_path / "x.csv")]

    assert (first, last) == ({"a": "1", "b": long}, {"a": "3", "b": "z"})
    assert "line 3: not CSV: field larger than field limit" in str(bad)


def test_quotes_that_are_never_closed_are_not_looked_for_again_and_again(tmp_path, monkeypatch):
    """Each of these lines opens a quote, and none closes one: the time was the square of their number."""
    monkeypatch.setattr(tables, "_MAX_RECORD_COST", 70 * 100)
    (tmp_path / "x.csv").write_text("a,b\n" + 'x","y\n' * 300)

    rows = [row for _, row in read_rows(tmp_path / "x.csv")]

    assert "line 2: not CSV: a quote is not closed" in str(rows[0])
    assert "on: not CSV: quotes that are not closed in too many lines" in str(rows[-1])
    assert len(rows) < 10


def test_a_table_of_countless_columns_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text(",".join(map(str, range(MAX_COLUMNS + 1))) + "\n")

    with pytest.raises(runtime.InputError, match=f"too many columns: expected at most {MAX_COLUMNS}"):
        list(read_rows(tmp_path / "x.csv"))


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_of_countless_values_is_refused_before_they_are_made(suffix, tmp_path, monkeypatch):
    """Of a list of 21 million lists, 63 MB, came 1.7 GB."""
    monkeypatch.setattr(decoder, "MAX_FILE_BYTES", 2**25)  # as much is reserved for any file
    (tmp_path / f"x{suffix}").write_text("[" + "[]," * 7_000_000 + "[]]")

    tracemalloc.start()
    with pytest.raises(runtime.InputError, match="too many values"):
        raise_errors(read_rows(tmp_path / f"x{suffix}"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 200 * 2**20


def raise_errors(rows):
    for _, row in rows:
        if isinstance(row, runtime.InputError):
            raise row


def test_a_parquet_file_is_not_unpacked_to_far_more_than_it_is(tmp_path, monkeypatch):
    """Of one cell, in 34 kB, came 7 GB."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(tables, "_MAX_CHUNK_BYTES", 2**20)
    numbers = pyarrow.ListArray.from_arrays([0, 200_000], pyarrow.array(np.zeros(200_000, np.int8)))
    for column in (numbers, pyarrow.array(["x" * 2**20])):
        parquet.write_table(pyarrow.table({"a": column}), tmp_path / "x.parquet", compression="zstd")

        with pytest.raises(runtime.InputError, match=r"column 'a.*unpacks to too much"):
            list(read_rows(tmp_path / "x.parquet"))


def test_a_long_text_that_many_rows_share_is_made_row_by_row(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    text = "x" * 10_000_000
    shared = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 200), pyarrow.array([text]))
    table = pyarrow.table({"a": shared})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "x.parquet", compression="zstd")

    before = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    for _, row in read_rows(tmp_path / "x.parquet"):
        assert row["a"] == text
        assert pyarrow.total_allocated_bytes() - before < 20 * len(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 5 * len(text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_by_its_mark(encoding, delimiter, tmp_path):
    file = tmp_path / ("x.tsv" if delimiter == "\t" else "x.csv")
    file.write_bytes(f"a{delimiter}b\r\n1{delimiter}na\u00efve\r\n".encode(encoding))

    assert [row for _, row in read_rows(file)] == [{"a": "1", "b": "na\u00efve"}]


def test_a_table_in_utf16_without_a_mark_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes("a,b\n1,2\n".encode("utf-16-le"))

    with pytest.raises(runtime.InputError, match=r"line 1: not text: a null character .* Save it as UTF-8"):
        list(read_rows(tmp_path / "x.csv"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.csv", "a,a\n1,2\n", "column 'a' occurs twice"),
        ("x.xlsx", "", "not a table"),
        ("x.parquet", "no", "not a Parquet file"),
        ("x.json", "no", "not a list of JSON objects"),
    ],
)
def test_a_file_that_is_no_table_is_refused(name, content, reason, tmp_path):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_text(content)

    with pytest.raises(runtime.InputError, match=reason):
        list(read_rows(tmp_path / name))


def test_a_line_of_countless_columns_costs_itself_alone(tmp_path):
    wide = "{" + ",".join(f'"{number}":0' for number in range(MAX_COLUMNS + 1)) + "}"
    (tmp_path / "x.jsonl").write_text(f'{{"a":1}}\n{wide}\n{{"a":2}}\n')

    first, second, third = (row for _, row in read_rows(tmp_path / "x.jsonl"))

    assert (first, third) == ({"a": 1}, {"a": 2})
    assert "too many columns" in str(second)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_tells_what_separates_the_cells(tmp_path, delimiter):
    text = delimiter.join("ab") + "\r\n" + delimiter.join(('"x\ny"', "1")) + "\r\n"
    (tmp_path / "x.csv").write_bytes(text.encode())

    expected = [{"a": "x\ny", "b": "1"}]
    assert [row for _, row in read_rows(tmp_path / "x.csv")] == expected
    assert list(read_csv_text(text, "body")) == expected


def test_a_table_that_is_not_there_is_missing_whatever_its_name(tmp_path):
    for name in ("none", "none.csv", "none.xlsx"):
        with pytest.raises(runtime.InputError, match="no such file"):
            list(read_rows(tmp_path / name))
