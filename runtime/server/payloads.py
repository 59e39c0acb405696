"""Wire format of a model's inputs: tensors, JSON values and request bodies.

What an input is on the wire is in its kind's folder, ``runtime/inputs/<kind>/payload.py``; here are the checks that all
kinds share. A source is what ``Model.decode`` takes, and never a path: nothing in a request reaches the disk.
"""

import re
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from runtime.errors import InputError, listed
from runtime.inputs.composite.naming import part_subject
from runtime.inputs.datatypes import TensorSpec
from runtime.inputs.payload import Json, Payload
from runtime.inputs.registry import kind_name, open_payload
from runtime.manifest import Manifest
from runtime.server.errors import MediaTypeError, bounded

_NAME_CHARACTERS = 100

# A body of one of these types is an input of a kind whatever the client calls it; curl --data-binary calls it a form.
_FORM = "application/x-www-form-urlencoded"
_UNNAMED = {"", "application/octet-stream", _FORM, "binary/octet-stream"}

# The first field of such a form, where it is one: a text that begins like this is sent as what it is.
_FIELD = re.compile(rb"[A-Za-z_][\w.-]*=[\w.~*+%&=-]*\Z|[A-Za-z_][\w.-]*=[\w.~*+%-]*&[A-Za-z_][\w.-]*=")

# What a browser calls a body that is a string.
_PLAIN = "text/plain"

# Blanks before the first brace of JSON.
_LONGEST_BLANK = 256


def kind_of(manifest: Manifest) -> str:
    """Return the kind of a model's input; ``several`` where it has more than one."""
    return kind_name(manifest.inputs)


def input_specs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return the tensors that a model takes, over all its inputs."""
    return open_payload(manifest.inputs).tensors()


def encoded_inputs(manifest: Manifest) -> frozenset[str]:
    """Return the names of the inputs whose BYTES are not text: in JSON they are base64."""
    return open_payload(manifest.inputs).encoded_inputs


def body_media_types(manifest: Manifest) -> tuple[str, ...]:
    """Return the media types of a raw body that is one input, such as ``image/*``."""
    return open_payload(manifest.inputs).media_types


def table_types(manifest: Manifest) -> tuple[str, ...]:
    """Return the media types of a body with one input per row, such as ``text/csv``."""
    return open_payload(manifest.inputs).table_types


def has_json_files(manifest: Manifest) -> bool:
    """Return whether the files of a form are JSON."""
    return open_payload(manifest.inputs).has_json_files


def parts_of(manifest: Manifest) -> Mapping[str, Payload]:
    """Return the parts of a model's input by name; none where it has one input."""
    return open_payload(manifest.inputs).parts


def schema_of(manifest: Manifest) -> Json:
    """Return the JSON schema of one input."""
    return open_payload(manifest.inputs).schema()


def rows_of(arrays: Mapping[str, NDArray[Any]], manifest: Manifest, model: str) -> list[Any]:
    """Return one source per row of a request's tensors.

    Raises InputError when names, ranks or numbers of rows are not the model's; the values of a row are checked by
    ``Model.decode``.
    """
    payload = open_payload(manifest.inputs)
    names = [tensor.name for tensor in payload.tensors()]
    if arrays.keys() != set(names):
        expected = ", ".join(f"'{name}'" for name in names)
        got = listed([f"'{bounded(name, _NAME_CHARACTERS)}'" for name in arrays]) or "none"
        raise InputError(f"inputs: wrong names for model '{model}': expected {expected}, got {got}. Rename them.")
    for name, array in arrays.items():
        if not array.ndim or not len(array):
            raise InputError(f"input '{name}': empty: expected at least one row, got {list(array.shape)}. Send one.")
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"inputs: rows differ: expected the same number in each, got {counts}. Send as many of each.")
    return payload.rows(arrays)


def is_json(body: bytes, media_type: str, manifest: Manifest) -> bool:
    """Return whether a raw body is JSON: by its type, or where that says nothing, by the brace that it begins with.

    What browsers and other clients call a body without a type is no statement, unless the model takes that type.
    """
    if media_type.endswith(("/json", "+json")):
        return True
    named = media_type == _PLAIN and _PLAIN in open_payload(manifest.inputs).media_types
    return media_type in {*_UNNAMED, _PLAIN} and not named and body[:_LONGEST_BLANK].lstrip().startswith(b"{")


def source_from_json(value: Any, manifest: Manifest, subject: str) -> Any:
    """Return the source that a JSON value is; raises InputError for one that can be none of the model's kind.

    As in the ``instances`` of other servers, bytes may be ``{"b64": ...}``, and the only input of a model may be an
    object with its name. A row's columns are as they are.
    """
    payload = open_payload(manifest.inputs)
    if kind_of(manifest) == "tabular" or not isinstance(value, dict):
        return payload.from_json(value, subject)
    inputs = manifest.inputs
    if len(inputs) > 1:
        return payload.from_json({name: _without_b64(part) for name, part in value.items()}, subject)
    name = inputs[0].name
    value = _without_b64(value[name] if value.keys() == {name} else value)
    if isinstance(value, dict):
        forms = f'{{"b64": ...}} or {{"{name}": ...}}' if payload.encoded_inputs else f'{{"{name}": ...}}'
        got = listed([f"'{bounded(key, _NAME_CHARACTERS)}'" for key in value]) or "none"
        raise InputError(
            f"{subject}: expected the input as it is, or {forms}, got an object with {got}. Send one of these."
        )
    return payload.from_json(value, subject)


def _without_b64(value: Any) -> Any:
    is_bytes = isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)
    return value["b64"] if is_bytes else value


def source_from_body(body: bytes, media_type: str, payload: Payload) -> Any:
    """Return the source that a raw body is; raises MediaTypeError where its type is not one of the model's kind."""
    if payload.decodes_body and media_type == _FORM and _FIELD.match(body[:_LONGEST_BLANK]):
        raise MediaTypeError(
            "Content-Type: a form of fields: expected the text itself, got something such as 'name=value'. Send it as "
            "'text/plain', or as JSON."
        )
    if payload.media_types and (media_type in _UNNAMED or _is_listed(media_type, payload.media_types)):
        return payload.from_body(body)
    nouns = [noun for noun in (payload.body_noun, *(f"'{name}'" for name in payload.table_types)) if noun]
    expected = "".join(f"{noun}, " for noun in nouns)
    raise MediaTypeError(
        f"Content-Type: not taken by this model: expected {expected}'multipart/form-data' or 'application/json', "
        f"got {media_type[:80]!r}. Send one of these."
    )


def source_from_part(part: bytes, manifest: Manifest, subject: str) -> Any:
    """Return the source that a file of a form is; raises InputError for a file that can be none of the model's kind."""
    return open_payload(manifest.inputs).from_file(part, subject)


def source_from_parts(form: Mapping[str, bytes], manifest: Manifest, subject: str) -> dict[str, Any]:
    """Return the source whose parts are files or fields of a form; raises InputError for one that can be no such part.

    A missing part, and one of an unknown name, are left to the decoder, which names them.
    """
    parts = parts_of(manifest)
    return {
        name: parts[name].from_file(data, part_subject(subject, name)) if name in parts else None
        for name, data in form.items()
    }


def _is_listed(media_type: str, listed: tuple[str, ...]) -> bool:
    """Return whether a media type is one of those listed, of which ``image/*`` stands for all of its family."""
    return any(media_type == name or (name.endswith("/*") and media_type.startswith(name[:-1])) for name in listed)
