"""Token sequences in files, lists and tables."""

from typing import Any

from runtime.inputs.source import NamedInput, SourceFormat, choose_column, value_from_line
from runtime.manifest import TokensInput

_USUAL_COLUMNS = ("tokens", "input_ids", "ids", "input")


def _from_row(row: dict[str, Any], column: str | None, subject: str) -> NamedInput:
    return (subject, row[choose_column(row, column, subject, _USUAL_COLUMNS)])


FORMAT = SourceFormat(
    from_line=value_from_line, from_row=_from_row, json_rows=(dict, list), usual_columns=_USUAL_COLUMNS
)


def source_format(_spec: TokensInput) -> SourceFormat:
    """Return how token sequences are stored: one per file or line, or in one column of a table."""
    return FORMAT
