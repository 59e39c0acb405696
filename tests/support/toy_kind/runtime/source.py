"""Points in files, lists and tables."""

from typing import Any

from support.toy_kind.manifest import PointInput

from runtime.inputs.source import NamedInput, SourceFormat, value_from_line


def _from_row(row: dict[str, Any], _column: str | None, subject: str) -> NamedInput:
    return (subject, (row["x"], row["y"]))


def source_format(_spec: PointInput) -> SourceFormat:
    """Return how points are stored: one per .point file or line of a list, or in two columns of a table."""
    return SourceFormat(
        suffixes=frozenset({".point"}),
        from_line=value_from_line,
        from_row=_from_row,
        row_columns=frozenset({"x", "y"}),
    )
