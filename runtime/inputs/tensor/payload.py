"""Wire format of arrays: tensors, or numbers in nested lists."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.inputs.datatypes import TensorSpec, datatype_of
from runtime.inputs.payload import Json, Payload, check_array, check_json_type
from runtime.inputs.tensor.decoder import read_arrays
from runtime.inputs.tensor.npy import rows_of_npy
from runtime.manifest import TensorInput


class TensorPayload(Payload):
    """An array of the manifest's dtype and shape."""

    table_types = ("application/x-npy",)

    def __init__(self, spec: TensorInput) -> None:
        self._spec = spec
        self._dtype = np.dtype(spec.dtype)
        self._shape = tuple(length if isinstance(length, int) else -1 for length in spec.shape)

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the array's own tensor."""
        return (TensorSpec(name=self._spec.name, datatype=datatype_of(self._dtype), shape=self._shape),)

    def rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return one array per row."""
        array = arrays[self._spec.name]
        check_array(self._spec.name, array, self._dtype, self._shape)
        return list(array)

    def from_table(self, body: bytes) -> Sequence[Any]:
        """Return the array of an .npy file, or those of its first dimension."""
        return rows_of_npy(body, "body", rank=len(self._spec.shape) - 1)

    def from_json(self, value: Any, subject: str) -> Any:
        """Return numbers in nested lists, or one number for an input without further dimensions."""
        # A text would be read as the path of a file.
        if isinstance(value, bool | int | float) and len(self._spec.shape) == 1:
            return value
        return check_json_type(value, list, "numbers in nested lists", subject)

    def to_json(self, source: Any) -> Any:
        """Return an array, or the bytes of an .npy, .npz or JSON file, as numbers in nested lists."""
        return array_to_json(source)

    def schema(self) -> Json:
        """Return the schema of nested lists of numbers."""
        schema: Json = {"type": "integer" if self._spec.dtype.startswith(("int", "uint")) else "number"}
        for length in reversed(self._spec.shape[1:]):
            schema = {"type": "array", "items": schema, "minItems": 1}
            if isinstance(length, int):
                schema |= {"minItems": length, "maxItems": length}
        return schema


def array_to_json(source: Any) -> Any:
    """Return arrays, by name where there are several, as numbers in nested lists; bytes are those of a file of them."""
    value = read_arrays(source, "input") if isinstance(source, bytes) else source
    if isinstance(value, Mapping):
        return {name: array_to_json(array) for name, array in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
