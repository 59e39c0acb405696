"""Wire format of several named inputs: the tensors of all, or JSON objects."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.datatypes import TensorSpec
from runtime.inputs.payload import Json, Payload, json_type_name
from runtime.inputs.tensor.payload import array_to_json


class CompositePayload(Payload):
    """Several inputs: the tensors of all of them, or a JSON object with the inputs by name."""

    def __init__(self, payloads: Mapping[str, Payload]) -> None:
        self._payloads = payloads
        self.encoded_inputs = frozenset().union(*(payload.encoded_inputs for payload in payloads.values()))

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensors of all inputs."""
        return tuple(tensor for payload in self._payloads.values() for tensor in payload.tensors())

    def rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return one dictionary of inputs per row."""
        columns = {name: payload.rows(arrays) for name, payload in self._payloads.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def from_json(self, value: Any, subject: str) -> dict[str, Any]:
        """Return the inputs by name; those of unknown names are left to the decoder, which names them."""
        if not isinstance(value, dict):
            raise InputError(
                f"{subject}: expected an object with the inputs by name, got {json_type_name(value)}. Send one."
            )
        return {
            name: self._payloads[name].from_json(part, subject) if name in self._payloads else None
            for name, part in value.items()
        }

    def to_json(self, source: Any) -> Any:
        """Return inputs by name, or the bytes of an .npz or JSON file with them, as an object."""
        return array_to_json(source)

    def schema(self) -> Json:
        """Return the schema of an object with the inputs by name."""
        return {
            "type": "object",
            "required": list(self._payloads),
            "properties": {name: payload.schema() for name, payload in self._payloads.items()},
            "additionalProperties": False,
        }
