"""Request bodies of an artifact's inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from runtime.errors import InputError
from runtime.inputs.tensor.decoder import read_arrays
from runtime.manifest import Manifest
from runtime.server.payloads import kind_of, source_from_json

_NPY = b"\x93NUMPY"


@dataclass(frozen=True, kw_only=True)
class Body:
    """One input as a client sends it, and the source that the server then passes to the model's decoder."""

    name: str
    content: bytes
    media_type: str
    source: Any


def to_body(name: str, source: Any, manifest: Manifest) -> Body:
    """Return the request for one input: a path, bytes as in golden.npz, or a value as tables have them.

    Raises InputError for a file that cannot be read.
    """
    kind = kind_of(manifest)
    if isinstance(source, PathLike):
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"'{source}': {error.strerror}. Check the path passed to --samples.") from error
    if kind == "image":
        if not isinstance(source, bytes):
            raise InputError(f"'{name}': not an encoded image: got {type(source).__name__}. Pass image files.")
        return Body(name=name, content=source, media_type="application/octet-stream", source=source)
    try:
        value = _to_json(source, kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"'{name}': not an input of this model: {str(error).rstrip('.')}. Check --samples.") from error
    content = msgspec.json.encode({"input": value})
    # As the server sees it, which is what JSON leaves of it.
    parsed = msgspec.json.decode(content)["input"]
    return Body(
        name=name, content=content, media_type="application/json", source=source_from_json(parsed, manifest, name)
    )


def _to_json(source: Any, kind: str) -> Any:
    """Return an input as a JSON value; bytes are read as the decoder of ``kind`` reads them."""
    match source:
        case bytes() if kind == "text":
            text = source.decode()
            return msgspec.json.decode(text) if text.lstrip().startswith("[") else text
        case bytes() if kind == "tokens" and not source.startswith((b"[", _NPY)):
            words = source.decode().replace(",", " ").split()
            return [int(word) if word.isdigit() else word for word in words]
        case bytes() if kind in {"tabular", "tokens"} and not source.startswith(_NPY):
            return msgspec.json.decode(source)
        case bytes():
            return _to_json(read_arrays(source, "input"), kind)
        case Mapping():
            return {name: _to_json(part, "tensor") for name, part in source.items()}
        case np.ndarray() | np.generic():
            return source.tolist()
    return source
