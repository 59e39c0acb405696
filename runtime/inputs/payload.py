"""Wire format of an input kind: tensors, JSON values and request bodies."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.datatypes import BYTES, TensorSpec, datatype_of
from runtime.inputs.encoding import decode_text
from runtime.inputs.json_size import json_reason

T = TypeVar("T")

Json: TypeAlias = dict[str, Any]


class Payload(ABC):
    """One input of a model as requests carry it.

    A source is what ``Model.decode`` takes, and never a path: nothing in a request reaches the disk.

    ``media_types`` are the types of a raw body, such as ``image/*``; empty where a raw body is no input.
    ``body_noun`` is what messages call such a body. ``encoded_inputs`` are the names of the inputs whose BYTES are not
    text: in JSON they are base64. ``has_json_files`` says that ``from_file`` reads JSON, ``decodes_body`` that
    ``from_body`` decodes the body, which takes long for a long one. ``parts`` are those of an input, by name.
    ``table_types`` are the types of a body with one input per row, such as ``text/csv`` or ``application/x-npy``.
    """

    media_types: tuple[str, ...] = ()
    body_noun: str = ""
    encoded_inputs: frozenset[str] = frozenset()
    has_json_files: bool = True
    decodes_body: bool = False
    parts: Mapping[str, "Payload"] = MappingProxyType({})
    table_types: tuple[str, ...] = ()

    @abstractmethod
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensors of the Open Inference Protocol."""

    @abstractmethod
    def rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return one source per row of a request's tensors, which have the names of ``tensors``.

        Raises InputError for a wrong datatype or shape; the values of a row are checked by ``Model.decode``.
        """

    @abstractmethod
    def from_json(self, value: Any, subject: str) -> Any:
        """Return the source that a JSON value is; raises InputError for a value of another type."""

    @abstractmethod
    def to_json(self, source: Any) -> Any:
        """Return the JSON value of an input as files and tables have it: its encoded form as bytes, or a value.

        Raises ValueError for bytes that are not the encoded form.
        """

    @abstractmethod
    def schema(self) -> Json:
        """Return the JSON schema of one input."""

    def prepared_rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any] | None:  # noqa: ARG002
        """Return one prepared input per row, where a request's tensors are prepared inputs; None where they are not.

        Raises InputError for prepared inputs of a wrong datatype or shape.
        """
        return None

    def encoded_files(self, source: bytes) -> tuple[bytes, ...]:
        """Return the files that an input in its encoded form holds: itself, or those of its parts."""
        return (source,)

    def from_body(self, body: bytes) -> Any:
        """Return the source that a raw body of one of ``media_types`` is."""
        return body

    def from_table(self, body: bytes) -> Sequence[Any]:  # noqa: ARG002
        """Return the sources in a body of one of ``table_types``, and the InputErrors of rows that cannot be read.

        Its length is known before all of them are in memory.
        """
        return []

    def from_file(self, data: bytes, subject: str) -> Any:
        """Return the source that a file of a form is; raises InputError for one that is not JSON."""
        try:
            value = msgspec.json.decode(decode_text(data, subject))
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"{subject}: not JSON: {json_reason(error, data)}. Send JSON in UTF-8.") from None
        return self.from_json(value, subject)


def check_array(
    name: str, array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...], *, alternative: str = ""
) -> None:
    """Raise InputError unless an input's array is of ``dtype`` and ``shape``, of which -1 is any length but 0.

    ``alternative`` is another form that the message offers.
    """
    if array.dtype != dtype:
        raise InputError(
            f"input '{name}': wrong datatype: expected {datatype_of(dtype)}{alternative}, got "
            f"{datatype_of(array.dtype)}. Convert it."
        )
    fits = array.ndim == len(shape) and all(
        length > 0 if expected == -1 else length == expected
        for length, expected in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"input '{name}': unexpected shape: expected {list(shape)}, got {list(array.shape)}. Reshape it."
        )


def check_bytes(name: str, array: NDArray[Any]) -> None:
    """Raise InputError unless an input's array holds BYTES."""
    if array.dtype != object:
        raise InputError(
            f"input '{name}': wrong datatype: expected {BYTES}, got {datatype_of(array.dtype)}. Convert it."
        )


def to_column(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return an input's array as [batch]; raises InputError unless it is [batch] or [batch, 1]."""
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim != 1:
        raise InputError(
            f"input '{name}': unexpected shape: expected [-1] or [-1, 1], got {list(array.shape)}. Reshape it."
        )
    return array


def to_text(name: str, element: bytes) -> str:
    """Return an element of a BYTES tensor as text; raises InputError where it is of another encoding."""
    return decode_text(element, f"input '{name}'")


def check_json_type(value: Any, expected: type[T], description: str, subject: str) -> T:
    """Return a JSON value of the type ``expected``; raises InputError for one of another type."""
    if not isinstance(value, expected):
        raise InputError(f"{subject}: expected {description}, got {json_type_name(value)}. Send that.")
    return value


def json_type_name(value: Any) -> str:
    """Return what messages call the type of a JSON value."""
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")
