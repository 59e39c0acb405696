"""What each input kind is on the wire: its tensors, its JSON, its raw body, and how a row of these becomes a source.

A source is what ``Model.decode`` takes, and never a path: nothing in a request reaches the disk.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.manifest import ImageInput, Input, Manifest, TabularInput, TensorInput, TextInput, TokensInput
from runtime.server.errors import MediaTypeError
from runtime.server.open_inference.tensors import BYTES, TensorSpec, datatype_of, from_base64

Json = dict[str, Any]

NAMES: dict[type[Any], str] = {
    ImageInput: "image",
    TensorInput: "tensor",
    TabularInput: "tabular",
    TextInput: "text",
    TokensInput: "tokens",
}

# A body of one of these is an input of a kind whatever the client calls it; curl --data-binary calls it a form.
_UNNAMED = {"", "application/octet-stream", "application/x-www-form-urlencoded", "binary/octet-stream"}

_STRINGS = "string"


def kind_of(manifest: Manifest) -> str:
    """Return the kind of a model's input; ``several`` where it has more than one."""
    return NAMES[type(manifest.inputs[0])] if len(manifest.inputs) == 1 else "several"


def input_specs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return the tensors that a model takes, over all its inputs."""
    return tuple(tensor for spec in manifest.inputs for tensor in _tensors(spec))


def encoded_inputs(manifest: Manifest) -> frozenset[str]:
    """Return the names of the inputs whose BYTES are no text: in JSON they are base64."""
    return frozenset(spec.name for spec in manifest.inputs if isinstance(spec, ImageInput))


def rows_of(arrays: Mapping[str, NDArray[Any]], manifest: Manifest, model: str) -> list[Any]:
    """Return a source for each row of a request's tensors.

    Raises InputError when names, ranks or numbers of rows are not the model's; what is in a row is for
    ``Model.decode`` to judge.
    """
    wanted = [tensor.name for tensor in input_specs(manifest)]
    unknown = sorted(arrays.keys() - set(wanted))
    missing = [name for name in wanted if name not in arrays]
    if unknown or missing:
        expected = ", ".join(f"'{name}'" for name in wanted)
        got = ", ".join(f"'{name}'" for name in arrays) or "none"
        raise InputError(f"inputs: wrong names for model '{model}': expected {expected}, got {got}. Rename them.")
    for name, array in arrays.items():
        if not array.ndim or not len(array):
            raise InputError(f"input '{name}': empty: expected at least one row, got {list(array.shape)}. Send one.")
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"inputs: rows differ: expected the same number in each, got {counts}. Send as many of each.")
    parts = {spec.name: _rows(spec, arrays) for spec in manifest.inputs}
    if len(parts) == 1:
        return next(iter(parts.values()))
    return [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]


def source_from_json(value: Any, manifest: Manifest, subject: str) -> Any:
    """Return the source that a JSON value is; raises InputError for one that can be none of the model's kind."""
    if len(manifest.inputs) == 1:
        return _from_json(value, manifest.inputs[0], subject)
    if not isinstance(value, dict):
        raise InputError(f"{subject}: expected an object with the inputs by name, got {_name(value)}. Send one.")
    known = {spec.name: spec for spec in manifest.inputs}
    return {name: _from_json(part, known[name], subject) if name in known else None for name, part in value.items()}


def source_from_body(body: bytes, media_type: str, manifest: Manifest) -> Any:
    """Return the source that a raw body is; raises MediaTypeError where its type is not one of the model's kind."""
    kind = kind_of(manifest)
    if kind == "image" and (media_type in _UNNAMED or media_type.startswith("image/")):
        return body
    if kind == "text" and (media_type in _UNNAMED or media_type == "text/plain"):
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"body: not UTF-8: {error}. Send text.") from None
    expected = {"image": "an image, ", "text": "'text/plain', "}.get(kind, "")
    raise MediaTypeError(
        f"Content-Type: not taken by this model: expected {expected}'multipart/form-data' or 'application/json', "
        f"got {media_type[:80]!r}. Send one of these."
    )


def source_from_part(part: bytes, manifest: Manifest, subject: str) -> Any:
    """Return the source that a file in a form is: an image as it is, anything else as JSON or text."""
    kind = kind_of(manifest)
    if kind == "image":
        return part
    try:
        return part.decode() if kind == "text" else source_from_json(msgspec.json.decode(part), manifest, subject)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{subject}: neither JSON nor text: {error}. Send one of these.") from None


def task_of(manifest: Manifest) -> str:
    """Return the name of a model's task."""
    return str(manifest.task.__struct_config__.tag)


def schema_of(manifest: Manifest) -> Json:
    """Return the JSON schema of one input."""
    if len(manifest.inputs) == 1:
        return _schema(manifest.inputs[0])
    return {
        "type": "object",
        "required": [spec.name for spec in manifest.inputs],
        "properties": {spec.name: _schema(spec) for spec in manifest.inputs},
        "additionalProperties": False,
    }


def _tensors(spec: Input) -> tuple[TensorSpec, ...]:
    match spec:
        case ImageInput():
            also = (f"{BYTES} [-1]", f"{BYTES} [-1,1]")
            return (
                TensorSpec(name=spec.name, datatype=datatype_of(np.dtype(spec.dtype)), shape=_image(spec), also=also),
            )
        case TensorInput():
            shape = tuple(length if isinstance(length, int) else -1 for length in spec.shape)
            return (TensorSpec(name=spec.name, datatype=datatype_of(np.dtype(spec.dtype)), shape=shape),)
        case TabularInput():
            return tuple(
                TensorSpec(name=column.name, datatype=_column_datatype(column.dtype), shape=(-1, 1))
                for column in spec.columns
            )
        case TextInput():
            return (TensorSpec(name=spec.name, datatype=BYTES, shape=(-1, 2) if spec.pairs else (-1,)),)
        case TokensInput():
            return (TensorSpec(name=spec.name, datatype="INT64", shape=(-1, -1)),)


def _rows(spec: Input, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
    match spec:
        case ImageInput():
            array = arrays[spec.name]
            if array.dtype == object:
                return list(_flat(array, spec.name))
            _check(spec.name, array, np.dtype(spec.dtype), _image(spec), ", or BYTES of encoded images")
            return list(array)
        case TensorInput():
            array = arrays[spec.name]
            shape = tuple(length if isinstance(length, int) else -1 for length in spec.shape)
            _check(spec.name, array, np.dtype(spec.dtype), shape)
            return list(array)
        case TabularInput():
            columns = {column.name: _column(arrays[column.name], column.name, column.dtype) for column in spec.columns}
            return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        case TextInput():
            array = arrays[spec.name]
            _check_bytes(spec.name, array)
            if spec.pairs:
                _check(spec.name, array, np.dtype(object), (-1, 2))
                return [tuple(_text(part, spec.name) for part in row) for row in array]
            return [_text(element, spec.name) for element in _flat(array, spec.name)]
        case TokensInput():
            array = arrays[spec.name]
            _check(spec.name, array, np.dtype(np.int64), (-1, -1))
            return list(array)


def _from_json(value: Any, spec: Input, subject: str) -> Any:
    match spec:
        case ImageInput():
            return from_base64(_expect(value, str, "an image as base64", subject), subject)
        case TabularInput():
            return _expect(value, dict, "an object with the columns by name", subject)
        case TextInput():
            if spec.pairs:
                pair = _expect(value, list, "a list of two texts", subject)
                if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
                    raise InputError(f"{subject}: expected a list of two texts, got another. Send two texts.")
                return tuple(pair)
            return _expect(value, str, "a text", subject)
        case TokensInput():
            return _expect(value, list, "a list of token numbers", subject)
        case TensorInput():
            # A text would be read as the path of a file.
            if isinstance(value, bool | int | float) and len(spec.shape) == 1:
                return value
            return _expect(value, list, "numbers in nested lists", subject)


def _image(spec: ImageInput) -> tuple[int, ...]:
    return (-1, -1, -1, 1 if spec.mode == "L" else spec.channels)


def _schema(spec: Input) -> Json:
    match spec:
        case ImageInput():
            return {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/*"}
        case TabularInput():
            cells = {
                column.name: {"type": ["string", "null"] if column.nullable else "string"}
                if column.dtype == _STRINGS
                else {"type": ["number", "string", "null"] if column.nullable else ["number", "string"]}
                for column in spec.columns
            }
            return {"type": "object", "required": list(cells), "properties": cells, "additionalProperties": False}
        case TextInput():
            text = {"type": "string"}
            return {"type": "array", "items": text, "minItems": 2, "maxItems": 2} if spec.pairs else text
        case TokensInput():
            token = {"type": "integer", "minimum": 0, "maximum": spec.vocabulary_size - 1}
            return {"type": "array", "items": token, "minItems": 1}
        case TensorInput():
            schema: Json = {"type": "integer" if spec.dtype.startswith(("int", "uint")) else "number"}
            for length in reversed(spec.shape[1:]):
                schema = {"type": "array", "items": schema, "minItems": 1}
                if isinstance(length, int):
                    schema |= {"minItems": length, "maxItems": length}
            return schema


def _column_datatype(dtype: str) -> str:
    return BYTES if dtype == _STRINGS else datatype_of(np.dtype(dtype))


def _column(array: NDArray[Any], name: str, dtype: str) -> list[Any]:
    """Return one column's values, given as [batch, 1] or [batch]."""
    flat = _flat(array, name)
    if dtype == _STRINGS:
        _check_bytes(name, flat)
        return [_text(value, name) for value in flat]
    if flat.dtype != np.dtype(dtype):
        raise InputError(
            f"input '{name}': wrong datatype: expected {_column_datatype(dtype)}, got {datatype_of(array.dtype)}. "
            "Convert it."
        )
    return list(flat.tolist())


def _flat(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim != 1:
        raise InputError(
            f"input '{name}': unexpected shape: expected [-1] or [-1, 1], got {list(array.shape)}. Reshape it."
        )
    return array


def _check(name: str, array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...], more: str = "") -> None:
    if array.dtype != dtype:
        raise InputError(
            f"input '{name}': wrong datatype: expected {datatype_of(dtype)}{more}, got {datatype_of(array.dtype)}. "
            "Convert it."
        )
    fits = array.ndim == len(shape) and all(
        actual > 0 if wanted == -1 else actual == wanted for actual, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"input '{name}': unexpected shape: expected {list(shape)}, got {list(array.shape)}. Reshape it."
        )


def _check_bytes(name: str, array: NDArray[Any]) -> None:
    if array.dtype != object:
        raise InputError(
            f"input '{name}': wrong datatype: expected {BYTES}, got {datatype_of(array.dtype)}. Convert it."
        )


def _text(element: bytes, name: str) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"input '{name}': not UTF-8: {error}. Send text.") from None


def _expect(value: Any, kind: type, what: str, subject: str) -> Any:
    if not isinstance(value, kind):
        raise InputError(f"{subject}: expected {what}, got {_name(value)}. Send that.")
    return value


def _name(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")
