"""Request bodies of an artifact's inputs."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec

from runtime.errors import InputError
from runtime.inputs.registry import open_payload
from runtime.manifest import Manifest
from runtime.server.payloads import kind_of, source_from_json


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
        value = open_payload(manifest.inputs).to_json(source)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"'{name}': not an input of this model: {str(error).rstrip('.')}. Check --samples.") from error
    content = msgspec.json.encode({"input": value})
    # As the server sees it, which is what JSON leaves of it.
    parsed = msgspec.json.decode(content)["input"]
    return Body(
        name=name, content=content, media_type="application/json", source=source_from_json(parsed, manifest, name)
    )
