"""Table rows in files and lists."""

import msgspec

from runtime.inputs.source import SourceFormat, value_from_line, whole_row
from runtime.manifest import TabularInput

FORMAT = SourceFormat(suffixes=frozenset({".json"}), from_line=value_from_line, from_row=whole_row, json_rows=(dict,))


def source_format(spec: TabularInput) -> SourceFormat:
    """Return how rows are stored: in tables, or one JSON object per file or line."""
    return msgspec.structs.replace(FORMAT, row_columns=frozenset(column.name for column in spec.columns))
