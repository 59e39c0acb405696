"""Readers of tables: CSV, TSV, JSONL, JSON and Parquet."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from runtime.errors import InputError

# A row by column names; or, where a row could not be read, the error of this row alone.
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
    """Yield the JSON objects of a file with one per line; empty lines are not rows.

    A line with another value, such as a string or a list of token numbers, is a row with that value under ``input``.
    """
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            try:
                value = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                yield InputError(f"'{path}', line {number}: not JSON: {error}. Correct the line.")
                continue
            yield _row_of(value)


def read_json(path: Path) -> Iterator[Row]:
    """Yield the entries of a JSON file with a list of rows; an entry that is not an object is a row, as in JSONL."""
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[Any])
    except msgspec.DecodeError as error:
        raise InputError(f"'{path}': not a list of JSON objects: {error}. Write it again.") from error
    yield from map(_row_of, entries)


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
    its suffix is unknown.
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
    # Bytes that are not UTF-8 become surrogates, as in the names of files.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
        header = reader.fieldnames or ()
        repeated = next((name for name in header if header.count(name) > 1), None)
        if repeated is not None:
            raise InputError(f"'{path}': column '{repeated}' occurs twice. Rename one of the two.")
        try:
            for row in reader:
                # DictReader puts surplus cells under the key None, and gives missing cells the value None.
                extra = row.pop(None, None)
                if extra is not None:
                    yield InputError(
                        f"'{path}', line {reader.line_num}: too many values: expected {len(header)}, "
                        f"got {len(header) + len(extra)}. Quote values that hold '{delimiter}'."
                    )
                elif None in row.values():
                    got = sum(value is not None for value in row.values())
                    yield InputError(
                        f"'{path}', line {reader.line_num}: too few values: expected {len(header)}, got {got}. "
                        "Fill in the line."
                    )
                else:
                    yield dict(row)
        except csv.Error as error:
            raise InputError(f"'{path}', line {reader.line_num}: not CSV: {error}. Correct the line.") from error
