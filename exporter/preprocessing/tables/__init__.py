"""What was fitted on the columns of a table: read, asked for its columns, and written as ONNX nodes."""

from exporter.preprocessing.tables.columns import Profile, profile_columns
from exporter.preprocessing.tables.proving import proven_nodes
from exporter.preprocessing.tables.reading import TableReading, is_table_transform, read_table_transform
from exporter.preprocessing.tables.to_onnx_nodes import table_nodes

__all__ = [
    "Profile",
    "TableReading",
    "is_table_transform",
    "profile_columns",
    "proven_nodes",
    "read_table_transform",
    "table_nodes",
]
