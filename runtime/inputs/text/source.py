"""Texts in lists and tables."""

from typing import Any

import msgspec

from runtime.errors import InputError
from runtime.inputs.source import NamedInput, SourceFormat, choose_column
from runtime.manifest import TextInput

_USUAL_COLUMNS = ("text", "sentence", "input")


def _from_line(line: str, subject: str) -> NamedInput:
    return (subject, line)


def _from_row(row: dict[str, Any], column: str | None, subject: str) -> NamedInput:
    if column is not None and "," in column and column not in row:  # the two columns of a pair
        return (subject, [row[choose_column(row, name, subject, ())] for name in column.split(",")])
    return (subject, row[choose_column(row, column, subject, _USUAL_COLUMNS)])


def _pair_from_row(row: dict[str, Any], column: str | None, subject: str) -> NamedInput:
    if column is None and len(row) == 2:
        return (subject, list(row.values()))
    if column is None and len(row) != 1:
        raise InputError(
            f"'{subject}': which columns? expected --column FIRST,SECOND with two of {', '.join(map(repr, row))}. Name "
            "them."
        )
    return _from_row(row, column, subject)


FORMAT = SourceFormat(
    empty_lines=True,
    from_line=_from_line,
    from_row=_from_row,
    json_rows=(dict, list, str),
    usual_columns=_USUAL_COLUMNS,
)


def source_format(spec: TextInput) -> SourceFormat:
    """Return how texts are stored: one per line, or in one column of a table; pairs of texts are in two columns."""
    return msgspec.structs.replace(FORMAT, from_row=_pair_from_row) if spec.pairs else FORMAT
