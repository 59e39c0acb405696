"""Arrays in folders, lists and tables."""

from typing import Any

import msgspec

from runtime.errors import InputError
from runtime.inputs.source import NamedInput, SourceFormat, choose_column, path_from_line
from runtime.manifest import TensorInput

_USUAL_COLUMNS = ("path", "file", "filename", "input")


def _from_row(row: dict[str, Any], column: str | None, subject: str) -> NamedInput:
    value = row[choose_column(row, column, subject, _USUAL_COLUMNS)]
    if not isinstance(value, str) or not value:
        return (subject, InputError(f"'{subject}': not a path: expected text, got {value!r:.80}. Correct the cell."))
    return path_from_line(value, subject)


FORMAT = SourceFormat(
    suffixes=frozenset({".npy"}), from_line=path_from_line, from_row=_from_row, usual_columns=_USUAL_COLUMNS
)


def source_format(spec: TensorInput) -> SourceFormat:
    """Return how arrays are stored: one .npy file each, an .npy file with a batch of them, or a column of paths."""
    return msgspec.structs.replace(FORMAT, batch_rank=len(spec.shape))
