"""An input as a request's body, and as the server decodes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from runtime.decode.arrays import read_arrays
from runtime.errors import InputError
from runtime.manifest import Manifest
from runtime.server.kinds import kind_of, source_from_json


@dataclass(frozen=True, kw_only=True)
class Body:
    """One input: what a client sends, and what reaches the model's decoder when the server has read it."""

    name: str
    content: bytes
    media_type: str
    source: Any


def to_body(name: str, source: Any, manifest: Manifest) -> Body:
    """Return the request for one input: a path, bytes as in golden.npz, or a value as tables have them.

    Raises InputError for a file that cannot be read.
    """
    kind = kind_of(manifest)
    if isinstance(source, str | PathLike) and kind != "text":
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"'{source}': {error.strerror}. Check the path given to --samples.") from error
    if kind == "image" and isinstance(source, bytes):
        return Body(name=name, content=source, media_type="application/octet-stream", source=source)
    value = _to_json(source, kind)
    content = msgspec.json.encode({"input": value})
    # As the server sees it, which is what JSON leaves of it.
    parsed = msgspec.json.decode(content)["input"]
    return Body(
        name=name, content=content, media_type="application/json", source=source_from_json(parsed, manifest, name)
    )


def _to_json(source: Any, kind: str) -> Any:
    if isinstance(source, bytes):
        if kind in {"tabular", "tokens"}:
            return msgspec.json.decode(source)
        if kind == "text":
            text = source.decode()
            return msgspec.json.decode(text) if text.lstrip().startswith("[") else text
        source = read_arrays(source, "input")
    if isinstance(source, PathLike):
        return _to_json(Path(source).read_bytes(), kind)
    if isinstance(source, Mapping):
        return {name: _to_json(part, "tensor") for name, part in source.items()}
    return source.tolist() if isinstance(source, np.ndarray | np.generic) else source
