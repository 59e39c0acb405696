"""Wire format of inputs of several parts: the tensors of all, or JSON objects."""

from collections.abc import Mapping
from typing import Any

import msgspec
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.composite.naming import part_errors, part_subject, tensor_name
from runtime.inputs.datatypes import TensorSpec
from runtime.inputs.payload import Json, Payload, json_type_name
from runtime.inputs.tensor.payload import array_to_json


def is_object(data: bytes) -> bool:
    """Return whether the bytes of a file begin as a JSON object does."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


class CompositePayload(Payload):
    """An input of several parts: the tensors of all of them, or a JSON object with the parts by name.

    A tensor's name begins with its part's, such as ``row.age``, unless it is the part itself. In a form, a part is a
    file or a field of its name.
    """

    def __init__(self, payloads: Mapping[str, Payload]) -> None:
        self.parts = payloads
        self.encoded_inputs = frozenset(
            tensor_name(part, name) for part, payload in payloads.items() for name in payload.encoded_inputs
        )

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensors of all parts."""
        return tuple(
            msgspec.structs.replace(tensor, name=tensor_name(part, tensor.name))
            for part, payload in self.parts.items()
            for tensor in payload.tensors()
        )

    def rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return one dictionary of parts per row."""
        columns: dict[str, list[Any]] = {}
        for part, payload in self.parts.items():
            with part_errors(part):
                columns[part] = payload.rows(
                    {tensor.name: arrays[tensor_name(part, tensor.name)] for tensor in payload.tensors()}
                )
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def from_json(self, value: Any, subject: str) -> dict[str, Any]:
        """Return the parts by name; those of unknown names are left to the decoder, which names them."""
        if not isinstance(value, dict):
            raise InputError(
                f"{subject}: expected an object with the parts by name, got {json_type_name(value)}. Send one."
            )
        return {
            name: self.parts[name].from_json(part, part_subject(subject, name)) if name in self.parts else None
            for name, part in value.items()
        }

    def encoded_files(self, source: bytes) -> tuple[bytes, ...]:
        """Return the files that a JSON object has in base64, such as the photo of a part; none of an .npz file."""
        if not is_object(source):
            return ()
        values = self.from_file(source, "input").values()
        return tuple(value for value in values if isinstance(value, bytes))

    def to_json(self, source: Any) -> Any:
        """Return parts by name, or the bytes of an .npz or JSON file with them, as an object."""
        if isinstance(source, bytes):
            return array_to_json(source)
        return {name: self.parts[name].to_json(part) for name, part in source.items()}

    def schema(self) -> Json:
        """Return the schema of an object with the parts by name."""
        return {
            "type": "object",
            "required": list(self.parts),
            "properties": {name: payload.schema() for name, payload in self.parts.items()},
            "additionalProperties": False,
        }
