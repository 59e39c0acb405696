"""Rows from files: CSV, TSV, JSONL and Parquet, one at a time."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from runtime.errors import InputError

# A row by column names; or, where one row could not be read, the reason, which costs only that row.
Row: TypeAlias = dict[str, Any] | InputError

_PARQUET_ROWS = 1024


def read_csv(path: Path) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header; values are strings.

    Semicolons separate where the header has those and no comma, as spreadsheets write it in much of Europe.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        header = stream.readline()
    return _read_separated(path, ";" if ";" in header and "," not in header else ",")


def read_tsv(path: Path) -> Iterator[Row]:
    """Yield the rows of a tab-separated file with a header; values are strings."""
    return _read_separated(path, "\t")


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yield the JSON objects of a file that has one a line; empty lines are no rows.

    A line with another value, such as a string or a list of token numbers, is a row with that value under ``input``.
    """
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            try:
                value = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                yield InputError(f"'{path}', line {number}: not JSON: {error}. Mend the line.")
                continue
            yield _row_of(value)


def read_json(path: Path) -> Iterator[Row]:
    """Yield the entries of a JSON file that has a list of them; one that is no object is a row, as in JSONL."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=list[Any])
    except msgspec.DecodeError as error:
        raise InputError(f"'{path}': not a list of JSON objects: {error}. Write it again.") from error
    yield from map(_row_of, found)


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    pyarrow = import_parquet(path)
    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"'{path}': not a Parquet file: {error}. Write it again.") from error


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield each row of a table with its name, ``FILE#ROW``, the first after a header being row 1.

    Beside ``READERS``, a ``.json`` file with a list of rows is read. Raises InputError when there is no such file, or
    it is of no kind that is known.
    """
    readers = {**READERS, ".json": read_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"'{path}': not a table: expected {', '.join(readers)}, got '{path.suffix}'. Convert it.")
    if not path.is_file():
        raise InputError(f"'{path}': no such file. Check the path.")
    for number, row in enumerate(reader(path), start=1):
        yield f"{path}#{number}", row


def import_parquet(path: Path) -> Any:
    """Return pyarrow with its Parquet module; raises InputError, with the command, where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"'{path}': Parquet needs pyarrow. Run: pip install 'truecopy[parquet]'") from error
    return pyarrow


def _row_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"input": value}


def _read_separated(path: Path, delimiter: str) -> Iterator[Row]:
    # Bytes that are not UTF-8 survive as surrogates, as they do in the names of files.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
        header = reader.fieldnames or ()
        twice = next((name for name in header if header.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"'{path}': column '{twice}' is there twice: expected different names. Rename one.")
        try:
            for row in reader:
                # DictReader's names for what has none: cells beyond the header's, and cells that a short line lacks.
                extra = row.pop(None, None)
                if extra is not None:
                    wanted = len(reader.fieldnames or ())
                    yield InputError(
                        f"'{path}', line {reader.line_num}: too many values: expected {wanted}, "
                        f"got {wanted + len(extra)}. Quote values that hold '{delimiter}'."
                    )
                elif None in row.values():
                    wanted = len(reader.fieldnames or ())
                    got = sum(value is not None for value in row.values())
                    yield InputError(
                        f"'{path}', line {reader.line_num}: too few values: expected {wanted}, got {got}. "
                        "Fill in the line."
                    )
                else:
                    yield dict(row)
        except csv.Error as error:
            raise InputError(f"'{path}', line {reader.line_num}: not CSV: {error}. Mend the line.") from error
