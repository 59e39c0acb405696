"""Sets of named inputs in files, lists and tables."""

from runtime.inputs.source import SourceFormat, value_from_line, whole_row
from runtime.manifest import Input

FORMAT = SourceFormat(suffixes=frozenset({".npz"}), from_line=value_from_line, from_row=whole_row, json_rows=(dict,))


def source_format(_spec: Input) -> SourceFormat:
    """Return how sets of inputs are stored: one archive of arrays each, or one row with a column per input."""
    return FORMAT
