"""The JSON Schema of ``parity.json``: ``python -m runtime.reports.schema > docs/parity.schema.json``."""

import inspect
import sys

import msgspec

from runtime.evidence import FORMAT_VERSION, Evidence


def to_schema() -> bytes:
    """Return the schema of what ``evidence_to_json`` writes, made from the types, so that they cannot part.

    Later minor versions may add fields: a reader has to ignore what it does not know, and so does the schema.
    """
    found = msgspec.json.schema(Evidence)
    for definition in found["$defs"].values():
        definition["description"] = inspect.cleandoc(definition["description"])
    found["$defs"]["Evidence"]["properties"]["format_version"] = {"const": FORMAT_VERSION}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"truecopy parity evidence, format version {FORMAT_VERSION}",
        **found,
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(to_schema())
