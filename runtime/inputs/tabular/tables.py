"""Readers of tables: CSV, TSV, JSONL, JSON and Parquet."""

import csv
import io
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import msgspec

from runtime.errors import InputError
from runtime.inputs.decoder import read_source
from runtime.inputs.encoding import (
    check_unicode,
    decode_text,
    is_mostly_empty,
    open_text,
    read_line,
    read_lines,
    too_many_empty,
    torn_text,
)
from runtime.inputs.json_size import check_json, json_reason

# A row by column names; or, where a row could not be read, the error of this row alone.
Row: TypeAlias = dict[str, Any] | InputError

# Rows of a Parquet file in memory at once; those of a batch beyond so many bytes become Python's one by one.
_PARQUET_ROWS = 128
_LARGE_BATCH_BYTES = 2**22

# What a column may unpack to within a row group, and how many times its own size beyond that: a file may claim more,
# and pages are in memory as a whole.
_MAX_CHUNK_BYTES, _MAX_CHUNK_RATIO = 2**28, 16
_VALUE_BYTES = 8

# The csv module's own limit of 131,072 characters is less than a text may have. It is one per process.
MAX_CELL_CHARACTERS = 2**24
csv.field_size_limit(MAX_CELL_CHARACTERS)

# What one record may take, and what may be read again after quotes that are never closed: characters, and as many more
# for each line as it takes in memory. Beyond what was read once and this, the time would be quadratic.
_MAX_RECORD_COST = 2**28
_LINE_COST = 64

# A row is a dictionary of its columns: no table that a model takes has as many.
MAX_COLUMNS = 2**16


def read_csv(path: Path) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header; values are strings.

    Semicolons or tabs separate where the header has those and no comma, as spreadsheets write it in much of Europe.
    """
    with open_text(path, f"'{path}'") as stream:
        header = read_line(stream, f"'{path}'", 1)
    return _read_separated(path, _delimiter_of(header))


def read_csv_text(text: str, name: str) -> Iterator[Row]:
    """Yield the rows of CSV with a header, as ``read_csv`` does; messages call it ``name``."""
    stream = io.StringIO(text, newline="")
    header = read_line(stream, f"'{name}'", 1)
    stream.seek(0)
    return _read_stream(stream, _delimiter_of(header), Path(name))


def _delimiter_of(header: str) -> str:
    return next((delimiter for delimiter in (",", ";", "\t") if delimiter in header), ",")


def read_tsv(path: Path) -> Iterator[Row]:
    """Yield the rows of a tab-separated file with a header; values are strings."""
    return _read_separated(path, "\t")


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yield the JSON objects of a file with one per line; empty lines are not rows.

    A line with another value, such as a string or a list of token numbers, is a row with that value under ``input``.
    """
    with path.open("rb") as stream:
        for number, line in enumerate(read_lines(stream, f"'{path}'"), 1):
            if isinstance(line, InputError):
                yield line
                continue
            if not line or line.isspace():
                continue
            subject = f"'{path}', line {number}"
            try:
                check_unicode(line, subject)
                check_json(line, subject)
                row = _row_of(msgspec.json.decode(line))
                _check_columns(len(row), path)
            except InputError as error:
                yield error
            except (msgspec.DecodeError, RecursionError) as error:
                yield InputError(f"{subject}: not JSON: {json_reason(error, line)}. Correct the line.")
            else:
                yield row


def read_json(path: Path) -> Iterator[Row]:
    """Yield the entries of a JSON file with a list of rows; an entry that is not an object is a row, as in JSONL."""
    try:
        text = decode_text(read_source(path, f"'{path}'"), f"'{path}'")
        check_json(text, f"'{path}'")
        entries = msgspec.json.decode(text, type=list[Any])
    except (msgspec.DecodeError, RecursionError) as error:
        reason = json_reason(error, text)
        raise InputError(f"'{path}': not a list of JSON objects: {reason}. Write it again.") from error
    yield from map(_row_of, entries)


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    pyarrow = import_parquet(path)
    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            _check_parquet(file.metadata, path)
        # A text that many rows share is kept once.
        texts = [column.path for column in file.schema if column.physical_type == "BYTE_ARRAY"]
        with pyarrow.parquet.ParquetFile(path, memory_map=True, read_dictionary=texts) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                step = 1 if batch.nbytes > _LARGE_BATCH_BYTES else _PARQUET_ROWS
                for first in range(0, batch.num_rows, step):
                    yield from batch.slice(first, step).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"'{path}': not a Parquet file: {str(error).rstrip('.')}. Write it again.") from error


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}

# Those whose first line has the names of the columns.
WITH_HEADER = frozenset({".csv", ".tsv"})


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield each row of a table with its name, ``FILE#ROW``, the first after a header being row 1.

    Beside ``READERS``, a ``.json`` file with a list of rows is read. Raises InputError when there is no such file, or
    its suffix is unknown.
    """
    readers = {**READERS, ".json": read_json}
    reader = readers.get(path.suffix.lower())
    if reader is None and not path.exists():
        raise InputError(f"'{path}': no such file or folder. Check the path.")
    if reader is None:
        raise InputError(f"'{path}': not a table: expected {', '.join(readers)}, got '{path.suffix}'. Convert it.")
    if not path.is_file():
        raise InputError(f"'{path}': no such file. Check the path.")
    for number, row in enumerate(reader(path), start=1):
        yield f"{path}#{number}", row


def import_parquet(name: object, *, what: str = "Parquet needs") -> Any:
    """Return pyarrow with its Parquet module; raises InputError, with the command, where it is not installed.

    ``name`` is what needs it, ``what`` says of which kind that is.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"'{name}': {what} pyarrow. Run: pip install 'truecopy[parquet]'") from error
    return pyarrow


def _check_columns(count: int, path: Path) -> None:
    if count > MAX_COLUMNS:
        raise InputError(
            f"'{path}': too many columns: expected at most {MAX_COLUMNS}, got {count}. Keep those of the model."
        )


def _check_parquet(metadata: Any, path: Path) -> None:
    """Raise InputError where a column unpacks to far more than it takes in the file, as the file itself says."""
    _check_columns(metadata.num_columns, path)
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            # A list of a single row has all of its values at once.
            values = column.num_values if column.num_values > group.num_rows else 0
            size_bytes = max(column.total_uncompressed_size, values * _VALUE_BYTES)
            if size_bytes > max(_MAX_CHUNK_BYTES, _MAX_CHUNK_RATIO * column.total_compressed_size):
                raise InputError(
                    f"'{path}': column '{column.path_in_schema:.80}' unpacks to too much: expected at most "
                    f"{_MAX_CHUNK_BYTES} bytes in a row group, got {size_bytes}. Write smaller row groups."
                )


def _row_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"input": value}


def _read_separated(path: Path, delimiter: str) -> Iterator[Row]:
    with open_text(path, f"'{path}'") as stream:
        yield from _read_stream(stream, delimiter, path)


def _read_stream(stream: TextIO, delimiter: str, path: Path) -> Iterator[Row]:
    header: list[str] = []
    for line, cells in _Records(stream, delimiter, path):
        if isinstance(cells, InputError):
            if not header:
                raise cells  # nothing tells what the columns are
            yield cells
        elif not header:
            header = cells
            _check_columns(len(header), path)
            repeated = next((name for name, count in Counter(header).items() if count > 1), None)
            if repeated is not None:
                raise InputError(f"'{path}': column '{repeated}' occurs twice. Rename one of the two.")
        elif len(cells) > len(header):
            yield InputError(
                f"'{path}', line {line}: too many values: expected {len(header)}, got {len(cells)}. Quote values "
                f"that hold '{delimiter}'."
            )
        elif len(cells) < len(header):
            yield InputError(
                f"'{path}', line {line}: too few values: expected {len(header)}, got {len(cells)}. Fill in the line."
            )
        else:
            yield dict(zip(header, cells, strict=True))


class _Records:
    """The records of a separated file: iterating yields their cells with the number of their first line.

    After a record that cannot be read, the next one begins at the line after its first: an opened quote that is never
    closed would take the rest of the table with it. Empty lines are no records.
    """

    def __init__(self, stream: TextIO, delimiter: str, path: Path) -> None:
        self._stream = stream
        self._delimiter = delimiter
        self._name = f"'{path}'"
        self._number = 0
        self._taken: list[str | InputError] = []  # the lines of the current record
        self._waiting: deque[str | InputError] = deque()  # lines that were read ahead
        self._taken_cost = self._read_cost = self._cost_again = 0

    def __iter__(self) -> Iterator[tuple[int, list[str] | InputError]]:
        reader = self._open_reader()
        empty = 0
        while True:
            self._taken.clear()
            self._taken_cost = 0
            number = self._number + 1
            try:
                cells = next(reader, None)
            except UnicodeError as error:
                yield number, torn_text(error, f"{self._name}, line {number}")
                return
            except (csv.Error, InputError) as error:
                yield number, self._error(error, number)
                self._number = number
                self._cost_again += self._taken_cost
                if self._cost_again > self._read_cost + _MAX_RECORD_COST:
                    yield (
                        number + 1,
                        InputError(
                            f"{self._name}, from line {number + 1} on: not CSV: quotes that are not closed in too many "
                            "lines. Write each quote inside a value twice; or save the table as .jsonl."
                        ),
                    )
                    return
                self._waiting.extendleft(reversed(self._taken[1:]))
                reader = self._open_reader()
                continue
            if cells is None:
                return
            empty += not cells
            if is_mostly_empty(empty, number):
                yield number, too_many_empty(f"{self._name}, line {number}")
                return
            if cells:
                yield number, cells
            self._number += len(self._taken)

    def _open_reader(self) -> Iterator[list[str]]:
        return csv.reader(self._take_lines(), delimiter=self._delimiter, strict=True)

    def _take_lines(self) -> Iterator[str]:
        line: str | InputError
        while line := self._waiting.popleft() if self._waiting else self._read_line():
            self._taken.append(line)
            if isinstance(line, InputError):
                raise line
            self._taken_cost += len(line) + _LINE_COST
            if self._taken_cost > _MAX_RECORD_COST:
                raise csv.Error("a quote is not closed")
            yield line

    def _read_line(self) -> str | InputError:
        try:
            line = read_line(self._stream, self._name, self._number + len(self._taken) + 1)
        except InputError as error:
            return error
        self._read_cost += len(line) + _LINE_COST
        return line

    def _error(self, error: csv.Error | InputError, number: int) -> InputError:
        first = self._taken[0]
        if isinstance(first, InputError):
            return first
        reason = error if isinstance(error, csv.Error) else "a quote is not closed"
        return InputError(
            f"{self._name}, line {number}: not CSV: {reason}. Quote a value that has quotes, and write each of them "
            "twice; or save the table as .jsonl."
        )
