"""Table inputs: a transform fitted on columns, read, profiled and written as ONNX nodes."""

from exporter.inputs.tabular.columns import Profile, profile_columns
from exporter.inputs.tabular.estimator import TabularTransform, is_table_transform, read_table_transform
from exporter.inputs.tabular.prove import proven_nodes

__all__ = [
    "Profile",
    "TabularTransform",
    "is_table_transform",
    "profile_columns",
    "proven_nodes",
    "read_table_transform",
]
