"""Wire format of points: FP32 [batch, 2], or JSON lists of two numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.toy_kind.manifest import PointInput

from runtime.inputs.datatypes import TensorSpec
from runtime.inputs.payload import Json, Payload, check_array, check_json_type


class PointPayload(Payload):
    """A point: two numbers."""

    media_types = ("text/csv",)
    body_noun = "'text/csv'"

    def __init__(self, spec: PointInput) -> None:
        self._name = spec.name

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensor of the points."""
        return (TensorSpec(name=self._name, datatype="FP32", shape=(-1, 2)),)

    def rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return one point per row."""
        check_array(self._name, arrays[self._name], np.dtype(np.float32), (-1, 2))
        return list(arrays[self._name])

    def from_json(self, value: Any, subject: str) -> Any:
        """Return a list of numbers."""
        return check_json_type(value, list, "a list of two numbers", subject)

    def to_json(self, source: Any) -> Any:
        """Return a point, or the bytes of a file of one, as a list."""
        return [float(value) for value in (source.decode().split(",") if isinstance(source, bytes) else source)]

    def schema(self) -> Json:
        """Return the schema of a list of two numbers."""
        return {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
