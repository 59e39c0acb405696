"""JSON Schema of the manifest: ``python -m runtime.manifest.schema > docs/manifest.schema.json``."""

import inspect
import sys
from typing import Any

import msgspec

from runtime.manifest.document import FORMAT_VERSION, Manifest

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def to_schema() -> bytes:
    """Return the schema of the manifest, made from its types, as indented JSON."""
    return schema_of(Manifest, title="truecopy artifact manifest", format_version=FORMAT_VERSION)


def schema_of(document: type[msgspec.Struct], *, title: str, format_version: int) -> bytes:
    """Return the schema of a document with a constant ``format_version``, as indented JSON."""
    schema: dict[str, Any] = msgspec.json.schema(document)
    for definition in schema["$defs"].values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    schema["$defs"][document.__name__]["properties"]["format_version"] = {"const": format_version}
    titled = {"$schema": _DRAFT, "title": f"{title}, format version {format_version}", **schema}
    return msgspec.json.format(msgspec.json.encode(titled), indent=2) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(to_schema())
