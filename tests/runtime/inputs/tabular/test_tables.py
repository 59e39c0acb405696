"""Files of rows: one dictionary a row, in order, and a bad line costs only itself."""

import json

import pytest

import runtime
from runtime.inputs.tabular.tables import read_rows

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
        ("x.jsonl", '{"a": 1}\nnope\n{"a": 3}\n', "line 2: not JSON"),
    ],
)
def test_a_bad_line_costs_only_itself(name, content, reason, tmp_path):
    (tmp_path / name).write_text(content)

    first, bad, last = [row for _, row in read_rows(tmp_path / name)]

    assert isinstance(first, dict)
    assert isinstance(last, dict)
    assert isinstance(bad, runtime.InputError)
    assert reason in str(bad)


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
