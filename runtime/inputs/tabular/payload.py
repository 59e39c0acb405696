"""Wire format of table rows: one tensor per column, or JSON objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.datatypes import BYTES, TensorSpec, datatype_of
from runtime.inputs.encoding import decode_text
from runtime.inputs.payload import Json, Payload, check_bytes, check_json_type, to_column, to_text
from runtime.inputs.tabular.tables import read_csv_text
from runtime.inputs.tensor.payload import array_to_json
from runtime.manifest import Column, TabularInput

_STRING = "string"


class TabularPayload(Payload):
    """A row: a tensor [batch, 1] per column, a JSON object with the columns by name, or a row of CSV."""

    table_types = ("text/csv",)

    def __init__(self, spec: TabularInput) -> None:
        self._columns = spec.columns

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return one tensor per column."""
        return tuple(
            TensorSpec(name=column.name, datatype=_datatype(column), shape=(-1, 1)) for column in self._columns
        )

    def rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return one dictionary of columns per row."""
        values = {column.name: _values(column, arrays[column.name]) for column in self._columns}
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def from_table(self, body: bytes) -> Sequence[Any]:
        """Return the rows of CSV whose first line names the columns."""
        return list(read_csv_text(decode_text(body, "body"), "body"))

    def from_json(self, value: Any, subject: str) -> dict[str, Any]:
        """Return an object with the columns by name."""
        return check_json_type(value, dict, "an object with the columns by name", subject)

    def to_json(self, source: Any) -> Any:
        """Return a row, or the bytes of a JSON file with one, as an object."""
        return msgspec.json.decode(decode_text(source, "input")) if isinstance(source, bytes) else array_to_json(source)

    def schema(self) -> Json:
        """Return the schema of an object with the columns by name."""
        cells = {column.name: _cell_schema(column) for column in self._columns}
        return {"type": "object", "required": list(cells), "properties": cells, "additionalProperties": False}


def _datatype(column: Column) -> str:
    return BYTES if column.dtype == _STRING else datatype_of(np.dtype(column.dtype))


def _values(column: Column, array: NDArray[Any]) -> list[Any]:
    """Return one column's values, given as [batch, 1] or [batch]."""
    flat = to_column(column.name, array)
    if column.dtype == _STRING:
        check_bytes(column.name, flat)
        return [to_text(column.name, element) for element in flat]
    if flat.dtype != np.dtype(column.dtype):
        raise InputError(
            f"input '{column.name}': wrong datatype: expected {_datatype(column)}, got {datatype_of(array.dtype)}. "
            "Convert it."
        )
    return list(flat.tolist())


def _cell_schema(column: Column) -> Json:
    if column.dtype == _STRING:
        return {"type": ["string", "null"] if column.nullable else "string"}
    return {"type": ["number", "string", "null"] if column.nullable else ["number", "string"]}
