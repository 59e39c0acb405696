"""Wire format of texts: BYTES in UTF-8, JSON strings, or plain text."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.datatypes import BYTES, TensorSpec
from runtime.inputs.encoding import decode_text
from runtime.inputs.payload import (
    Json,
    Payload,
    check_array,
    check_bytes,
    check_json_type,
    to_column,
    to_text,
)
from runtime.manifest import TextInput


class TextPayload(Payload):
    """A text, or a pair of texts: BYTES [batch] or [batch, 2], a JSON string or a list of two.

    Only a single text is also a body or a file of text: a pair in a file is JSON.
    """

    decodes_body = True

    def __init__(self, spec: TextInput) -> None:
        self._name = spec.name
        self._pairs = self.has_json_files = spec.pairs
        if not spec.pairs:
            self.media_types = ("text/plain",)
            self.body_noun = "'text/plain'"

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensor of the texts."""
        return (TensorSpec(name=self._name, datatype=BYTES, shape=(-1, 2) if self._pairs else (-1,)),)

    def rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return one text per row, or one tuple of two texts."""
        array = arrays[self._name]
        check_bytes(self._name, array)
        if self._pairs:
            check_array(self._name, array, np.dtype(object), (-1, 2))
            return [tuple(to_text(self._name, element) for element in row) for row in array]
        return [to_text(self._name, element) for element in to_column(self._name, array)]

    def from_json(self, value: Any, subject: str) -> str | tuple[str, ...]:
        """Return a text, or a pair of texts."""
        if not self._pairs:
            return check_json_type(value, str, "a text", subject)
        pair = check_json_type(value, list, "a list of two texts", subject)
        if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise InputError(f"{subject}: expected a list of two texts, got another. Send two texts.")
        return tuple(pair)

    def from_body(self, body: bytes) -> str:
        """Return the text of a body; raises InputError where it is of another encoding."""
        return decode_text(body, "body")

    def from_file(self, data: bytes, subject: str) -> str | tuple[str, ...]:
        """Return the text of a file, or the pair of texts in its JSON; raises InputError where it is neither."""
        if self._pairs:
            return super().from_file(data, subject)  # type: ignore[no-any-return]
        return decode_text(data, subject)

    def to_json(self, source: Any) -> Any:
        """Return a text, or a pair of texts, which bytes hold as a JSON list."""
        if not isinstance(source, bytes):
            return source
        text = decode_text(source, "input")
        return msgspec.json.decode(text) if self._pairs else text

    def schema(self) -> Json:
        """Return the schema of a string, or of a list of two."""
        text: Json = {"type": "string"}
        return {"type": "array", "items": text, "minItems": 2, "maxItems": 2} if self._pairs else text
