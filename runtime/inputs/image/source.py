"""Images in folders, lists and tables."""

from typing import Any

import msgspec
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
    if isinstance(value, dict) and isinstance(value.get("path"), str) and value.get("bytes") is None:
        value = value["path"]
    if (isinstance(value, bytes) and value) or isinstance(value, np.ndarray):
        return (subject, value)
    if not isinstance(value, str) or not value:
        problem = f"not an image: expected a path or bytes, got {value!r:.80}. Correct the cell."
        return (subject, InputError(f"'{subject}': {problem}"))
    return path_from_line(value, subject)


# The names of what Pillow's decoders read; among them all of torchvision's IMG_EXTENSIONS.
_JPEG = {".jpg", ".jpeg", ".jpe", ".jfif"}
_NETPBM = {".ppm", ".pgm", ".pbm", ".pnm"}
_TIFF = {".tif", ".tiff"}

FORMAT = SourceFormat(
    suffixes=frozenset({*_JPEG, *_NETPBM, *_TIFF, ".png", ".webp", ".bmp", ".gif"}),
    from_line=path_from_line,
    from_row=_from_row,
    usual_columns=_USUAL_COLUMNS,
)


def source_format(spec: ImageInput) -> SourceFormat:
    """Return how images are stored: one file each, or a column of paths or of encoded images."""
    if spec.mode == "bands":
        return msgspec.structs.replace(FORMAT, suffixes=frozenset({*_TIFF, ".npy", ".png"}))
    return FORMAT
