"""Wire format of images: pixels, or encoded image files."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.datatypes import BYTES, TensorSpec, datatype_of, from_base64
from runtime.inputs.image.decoder import PIXELS
from runtime.inputs.payload import Json, Payload, check_array, check_json_type, to_column
from runtime.inputs.tensor.decoder import from_numbers
from runtime.inputs.tensor.npy import rows_of_npy
from runtime.manifest import ImageInput


class ImagePayload(Payload):
    """An image: pixels of the manifest's dtype, [batch, height, width, channels], or BYTES of an image file."""

    media_types = ("image/*", "application/octet-stream", "application/x-image")
    body_noun = "an image"
    table_types = ("application/x-npy",)
    has_json_files = False

    def __init__(self, spec: ImageInput) -> None:
        self._spec = spec
        self._dtype = np.dtype(spec.dtype)
        self._shape = (-1, -1, -1, 1 if spec.mode == "L" else spec.channels)
        self.encoded_inputs = frozenset({spec.name})

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the pixels; BYTES of image files are another form of the same tensor."""
        also = (f"{BYTES} [-1]", f"{BYTES} [-1,1]")
        datatype = datatype_of(self._dtype)
        return (TensorSpec(name=self._spec.name, datatype=datatype, shape=self._shape, also=also),)

    def rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return the pixels of each image, or the bytes of its file."""
        array = arrays[self._spec.name]
        if array.dtype == object:
            return list(to_column(self._spec.name, array))
        check_array(self._spec.name, array, self._dtype, self._shape, alternative=", or BYTES of encoded images")
        return list(array)

    def prepared_rows(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any] | None:
        """Return prepared pixels, [batch, height, width, channels], by the name that ``Model.run`` has for them."""
        if arrays.keys() != {PIXELS} or self._spec.name == PIXELS:
            return None
        prepared = self._spec.preprocessing
        array = arrays[PIXELS]
        lengths = (prepared.height, prepared.width, prepared.channels)
        fits = array.ndim == 4 and all(
            length == expected or (expected is None and length > 0)
            for length, expected in zip(array.shape[1:], lengths, strict=True)
        )
        if array.dtype != self._dtype or not fits or not len(array):
            shape = [-1 if length is None else length for length in (None, *lengths)]
            raise InputError(
                f"input '{PIXELS}': wrong array: expected {datatype_of(self._dtype)} {shape}, "
                f"got {datatype_of(array.dtype)} {list(array.shape)}. Convert the array."
            )
        return list(array)

    def from_json(self, value: Any, subject: str) -> bytes | NDArray[Any]:
        """Return the bytes of an image file, which JSON has as base64, or pixels, which it has as nested lists."""
        if isinstance(value, list):
            return from_numbers(value, self._dtype, subject, self._spec.name)
        return from_base64(check_json_type(value, str, "an image as base64, or its pixels", subject), subject)

    def from_table(self, body: bytes) -> Sequence[Any]:
        """Return the pixels of one image, or of several, in an .npy file."""
        return rows_of_npy(body, "body", rank=len(self._shape) - 1)

    def from_file(self, data: bytes, subject: str) -> bytes:  # noqa: ARG002
        """Return the file."""
        return data

    def to_json(self, source: bytes) -> str:
        """Return an image file as base64."""
        return b64encode(source).decode()

    def schema(self) -> Json:
        """Return the schema of a base64 string."""
        return {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/*"}
