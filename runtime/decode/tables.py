"""Files of rows, one row at a time: CSV, Parquet, and JSON with a row a line or a list of rows."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from runtime.errors import InputError

NamedRow: TypeAlias = tuple[str, Mapping[str, Any] | InputError]

# Rows of a Parquet file that are in memory at once.
_PARQUET_ROWS = 4096


def read_rows(path: Path) -> Iterator[NamedRow]:
    """Yield each row of a file with its name, ``FILE:ROW``, in order; the first row after a header is row 1.

    A row is a dictionary by column; one that cannot be read is an InputError in its place. Only a few rows are in
    memory. Raises InputError when there is no such file, or its ending is not one of ``READERS``.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"'{path}': unknown kind of table: expected {', '.join(READERS)}, got '{path.suffix}'. Convert it first."
        )
    if not path.is_file():
        raise InputError(f"'{path}': no such file. Check the path.")
    for number, row in enumerate(reader(path), start=1):
        name = f"{path}:{number}"
        yield name, InputError(f"'{name}': {row}") if isinstance(row, str) else row


def _read_csv(path: Path) -> Iterator[Mapping[str, Any] | str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(stream)
        try:
            header = next(reader)
        except StopIteration:
            raise InputError(f"'{path}': empty: expected a line of column names. Check the file.") from None
        twice = {name for name in header if header.count(name) > 1}
        if twice:
            raise InputError(f"'{path}': column '{twice.pop()}' is there twice: expected different names. Rename one.")
        count = len(header)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield f"not CSV: {error}. Correct the line."
                continue
            if len(cells) == count:
                yield dict(zip(header, cells, strict=True))
            elif cells:  # csv gives nothing for an empty line
                yield f"wrong number of cells: expected {count}, got {len(cells)}. Correct the line."


def _read_parquet(path: Path) -> Iterator[Mapping[str, Any] | str]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"'{path}': reading Parquet needs pyarrow, which is not installed. Run: pip install 'truecopy[parquet]'."
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"'{path}': not a Parquet file: {reason}. Write it again.") from error


def _read_json_lines(path: Path) -> Iterator[Mapping[str, Any] | str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield f"not JSON: {error}. Correct the line."
                continue
            yield row if isinstance(row, dict) else _not_a_row(row)


def _read_json(path: Path) -> Iterator[Mapping[str, Any] | str]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path}': not JSON: {error}. Write it again.") from error
    for row in content if isinstance(content, list) else [content]:
        yield row if isinstance(row, dict) else _not_a_row(row)


def _not_a_row(value: object) -> str:
    return f"not a row: expected a JSON object, got {type(value).__name__}. Correct it."


READERS: dict[str, Callable[[Path], Iterator[Mapping[str, Any] | str]]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
}
