"""Result files of a job: JSONL, CSV and Parquet."""

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec

from runtime.engine.concurrency import batches
from runtime.errors import InputError
from runtime.inputs.tabular.tables import import_parquet
from runtime.jobs.journal import read_rows

# Rows that are in memory at once while a table is written.
_ROWS = 4096


def write_jsonl(rows: Path, out: Path) -> None:
    """Link the rows, which are JSONL already, to a second name."""
    try:
        out.hardlink_to(rows)
    except OSError:  # a file system without links
        shutil.copyfile(rows, out)


def write_csv(rows: Path, out: Path) -> None:
    """Write the rows as CSV: one column per value, nested lists as JSON, 'error' last."""
    with out.open("w", encoding="utf-8", newline="") as stream:
        write_csv_to(rows, stream)


def write_csv_to(rows: Path, stream: TextIO) -> None:
    """Write the rows as CSV to a stream."""
    columns: dict[str, None] = {}
    for row in read_rows(rows):
        columns.update(dict.fromkeys(_flatten(row)))
    columns.pop("error", None)
    writer = csv.DictWriter(stream, [*columns, "error"], restval="")
    writer.writeheader()
    writer.writerows(_flatten(row) for row in read_rows(rows))


def write_parquet(rows: Path, out: Path) -> None:
    """Write the rows as Parquet, with the types that all of them share; nested lists stay lists."""
    pyarrow = import_parquet(out)
    schema = pyarrow.schema([("input", pyarrow.string())])
    error = pyarrow.schema([("error", pyarrow.string())])
    for chunk in batches(read_rows(rows), _ROWS):
        chunk_schema = pyarrow.Table.from_pylist(_with_all_keys(chunk)).schema
        schema = pyarrow.unify_schemas([schema, chunk_schema], promote_options="permissive")
    if "error" in schema.names:  # last, as in CSV
        schema = schema.remove(schema.get_field_index("error"))
    schema = pyarrow.unify_schemas([schema, error])
    with pyarrow.parquet.ParquetWriter(out, schema) as writer:
        for chunk in batches(read_rows(rows), _ROWS):
            writer.write_table(pyarrow.Table.from_pylist(chunk, schema=schema))


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "parquet": write_parquet,
}

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}


def check_writable(out: Path, name: str) -> None:
    """Raise InputError for a format that cannot be written on this machine, before the work rather than after it."""
    if out.is_dir():
        raise InputError(f"'{out}': is a folder. Give the path of a file in it.")
    if out.exists() and not out.is_file():
        raise InputError(
            f"'{out}': not a file: expected the path of a new file, got a pipe or device. Write to stdout: --out -."
        )
    if name not in WRITERS:
        problem = f"no format '{name}' for files: expected {', '.join(WRITERS)}"
        if not name:
            problem = f"no format by its suffix: expected {', '.join(SUFFIXES)}, got '{out.suffix}'"
        raise InputError(f"'{out}': {problem}. Name it with --format.")
    if name == "parquet":
        import_parquet(out)


def write_results(name: str, rows: Path, out: Path) -> None:
    """Write the rows of a journal as file ``out`` in the format ``name``; a reader sees all of it or nothing."""
    temporary = out.with_name(out.name + ".new")
    temporary.unlink(missing_ok=True)
    try:
        WRITERS[name](rows, temporary)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose values are single: an object becomes 'name.key' columns, a list JSON."""
    return dict(_cells(row, ""))


def _cells(row: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _cells(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", msgspec.json.encode(value).decode()
        else:
            yield f"{prefix}{name}", value


def _with_all_keys(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with the keys of all in the first, where pyarrow looks for the columns."""
    keys = {key: None for row in rows for key in row}
    return [{**keys, **rows[0]}, *rows[1:]]
