"""Wire format of token sequences: int64 tensors, or JSON lists."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.inputs.datatypes import TensorSpec
from runtime.inputs.encoding import decode_text
from runtime.inputs.payload import Json, Payload, check_array, check_json_type
from runtime.inputs.tensor.npy import rows_of_npy
from runtime.inputs.tensor.payload import array_to_json
from runtime.manifest import TokensInput

_SHAPE = (-1, -1)


class TokensPayload(Payload):
    """A token sequence: int64 [batch, length], or a JSON list of token numbers."""

    table_types = ("application/x-npy",)

    def __init__(self, spec: TokensInput) -> None:
        self._spec = spec

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensor of the sequences, which have one length in a request."""
        return (TensorSpec(name=self._spec.name, datatype="INT64", shape=_SHAPE),)

    def rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return one sequence per row."""
        array = arrays[self._spec.name]
        check_array(self._spec.name, array, np.dtype(np.int64), _SHAPE)
        return list(array)

    def from_table(self, body: bytes) -> Sequence[Any]:
        """Return the sequence in an .npy file, or the rows of it."""
        return rows_of_npy(body, "body", rank=1)

    def from_json(self, value: Any, subject: str) -> list[Any]:
        """Return a list of token numbers, or of words."""
        return check_json_type(value, list, "a list of token numbers", subject)

    def to_json(self, source: Any) -> Any:
        """Return a sequence as a list; bytes are those of an .npy or JSON file, or words with blanks between."""
        if not isinstance(source, bytes) or source.startswith(b"\x93NUMPY"):
            return array_to_json(source)
        text = decode_text(source, "input")
        if text.startswith("["):
            return msgspec.json.decode(text)
        words = text.replace(",", " ").split()
        return [int(word) if word.isdigit() else word for word in words]

    def schema(self) -> Json:
        """Return the schema of a list of token numbers."""
        token = {"type": "integer", "minimum": 0, "maximum": self._spec.vocabulary_size - 1}
        return {"type": "array", "items": token, "minItems": 1}
