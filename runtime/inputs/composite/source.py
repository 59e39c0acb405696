"""Inputs of several parts in files, lists and tables."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from runtime.errors import InputError
from runtime.inputs.composite.naming import tensor_name
from runtime.inputs.source import NamedInput, Remote, SourceFormat, value_from_line

_HERE = Path()


def source_format(formats: Mapping[str, SourceFormat]) -> SourceFormat:
    """Return how inputs are stored: one JSON object or .npz file each, or a row of a table with a column per part.

    A path is relative to the folder of its file or table; a row that is a part has its columns in the table's own.
    """
    arrays = all(part.batch_rank is not None for part in formats.values())
    columns = {column for part in formats.values() for column in part.row_columns or ()}
    named = {tensor_name(name, column) for name, part in formats.items() for column in part.row_columns or ()}
    return SourceFormat(
        suffixes=frozenset({".npz"} if arrays else {".json"}),
        from_line=partial(_from_line, formats),
        from_row=partial(_from_row, formats, _HERE),
        json_rows=(dict,),
        row_columns=None if arrays else frozenset({*formats, *columns, *named}),
        in_folder=lambda folder: partial(_from_row, formats, folder),
    )


def sources_of(row: Mapping[str, Any], formats: Mapping[str, SourceFormat], *, folder: Path) -> dict[str, Any]:
    """Return the parts of a row of a table by name, those that cannot be read as InputErrors; and what is no part."""
    left = dict(row)
    sources: dict[str, Any] = {}
    for name, part in formats.items():
        if name in left:
            sources[name] = _source(left.pop(name), name, part, folder)
        elif part.row_columns is not None:
            # Two rows may have columns of one name.
            columns = {column: tensor_name(name, column) for column in part.row_columns}
            found = {column: own if own in left else column for column, own in columns.items()}
            cells = {column: left[key] for column, key in found.items() if key in left}
            if cells:
                sources[name] = cells
                left = {key: value for key, value in left.items() if key not in found.values()}
    return {**sources, **left}


def _from_line(formats: Mapping[str, SourceFormat], line: str, subject: str) -> NamedInput:
    named = value_from_line(line, subject)
    if not isinstance(named[1], bytes):
        return named
    try:
        row = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        names = ", ".join(f"'{name}'" for name in formats)
        return (
            subject,
            InputError(f"'{subject}': no file, and no JSON object with {names}: {error}. Correct the line."),
        )
    return _from_row(formats, _HERE, row, None, subject)


def _from_row(
    formats: Mapping[str, SourceFormat], folder: Path, row: dict[str, Any], column: str | None, subject: str
) -> NamedInput:
    if column is not None:
        raise InputError(
            f"'{subject}': --column: an input has several parts, each in a column of its name. Leave it out."
        )
    return (subject, sources_of(row, formats, folder=folder))


def _source(value: Any, name: str, part: SourceFormat, folder: Path) -> Any:
    """Return what the part's kind makes of a cell; numbers, lists and objects are the part itself."""
    if not isinstance(value, str | bytes | dict):
        return value
    try:
        source = part.from_row({name: value}, name, name)[1]
    except InputError as error:
        source = error
    if isinstance(source, InputError):
        return InputError(str(source).removeprefix(f"'{name}': "))
    if isinstance(source, Remote):
        return InputError("behind a URL: expected a file. Download it first, and give its path.")
    return folder / source if isinstance(source, Path) else source
