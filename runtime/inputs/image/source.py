"""Images in folders, lists and tables."""

from typing import Any

import numpy as np

from runtime.errors import InputError
from runtime.inputs.source import NamedInput, SourceFormat, choose_column, path_from_line
from runtime.manifest import ImageInput

_USUAL_COLUMNS = ("path", "image", "file", "filename", "input")


def _from_row(row: dict[str, Any], column: str | None, subject: str) -> NamedInput:
    value = row[choose_column(row, column, subject, _USUAL_COLUMNS)]
    # Data sets keep encoded images in a struct of their bytes and the path that they had.
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return (str(value.get("path") or subject), value["bytes"])
    if (isinstance(value, bytes) and value) or isinstance(value, np.ndarray):
        return (subject, value)
    if not isinstance(value, str) or not value:
        problem = f"not an image: expected a path or bytes, got {value!r:.80}. Correct the cell."
        return (subject, InputError(f"'{subject}': {problem}"))
    return path_from_line(value, subject)


FORMAT = SourceFormat(
    suffixes=frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}),
    from_line=path_from_line,
    from_row=_from_row,
)


def source_format(_spec: ImageInput) -> SourceFormat:
    """Return how images are stored: one file each, or a column of paths or of encoded images."""
    return FORMAT
