"""Reference of the manifest, the evidence and the results, from their JSON schemas."""

import json
import re
from collections.abc import Mapping
from typing import Any

from maintenance.reference.markdown import anchor, to_prose, to_table
from runtime.manifest.schema import to_schema as manifest_schema
from runtime.reports.schema import to_schema as evidence_schema

Json = Mapping[str, Any]

_MANIFEST = """# The manifest: truecopy.json

Every artifact has one. It is read before any other file, and lists all of them with size and SHA-256. The [JSON
schema](../manifest.schema.json) says the same to programs. A reader refuses keys that it does not know, and other
format versions: see [versioning](../concepts/versioning.md). An example is the `truecopy.json` of any artifact.

"""
_EVIDENCE = """# The evidence: parity.json

What `truecopy export` and `truecopy parity --json` write. The [JSON schema](../parity.schema.json) says the same to
programs. Readers ignore keys that they do not know. [What *proven* means](../concepts/proven.md) and [the noise
floor](../concepts/noise-floor.md) explain the figures.

Begin with `verdict` and `reason`. `rows` has one entry for each path, stage and group of inputs: `difference` divided
by `floor` is what tables call *x noise*, and `fault` is null where the row passed. `not_proven` says what was left out.

```python
import json

with open("artifacts/model/parity.json") as file:
    evidence = json.load(file)
print(evidence["verdict"], evidence["reason"])
for row in evidence["rows"]:
    ratio = row["difference"] / row["floor"] if row["difference"] and row["floor"] else 0
    print(row["path"], row["stage"], row["group"], ratio, row["fault"] or "passed")
print(*evidence["not_proven"], sep="\\n")
```

"""


def manifest() -> str:
    """Return the page of the manifest."""
    return _MANIFEST + types(json.loads(manifest_schema())["$defs"])


def evidence() -> str:
    """Return the page of the evidence."""
    return _EVIDENCE + types(json.loads(evidence_schema())["$defs"])


def types(definitions: Mapping[str, Json], level: int = 2) -> str:
    """Return one section per type: what it is, and one row per key."""
    sections = []
    for name, definition in definitions.items():
        keys = definition.get("properties", {})
        about, meanings = _split(definition.get("description", ""), keys)
        required = definition.get("required", ())
        rows = [
            [f"`{key}`", _type(schema), meanings.get(key, ""), "" if key in required else "optional"]
            for key, schema in keys.items()
        ]
        table = to_table(["key", "type", "meaning", ""], rows) if rows else ""
        sections.append(f"{'#' * level} {name}\n\n{about}\n\n{table}")
    return "\n".join(sections)


def _split(description: str, keys: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the sentences about the type, and those about keys, by key.

    A sentence about several keys is the meaning of its first one, and the others refer to it. One that names no key
    goes on with the key before it.
    """
    summary, *sentences = re.split(r"(?<=\.)\s+(?=[A-Z`])", " ".join(to_prose(description).split()))
    about = [summary]
    meanings: dict[str, list[str]] = {}
    current = about
    for sentence in sentences:
        named = [key for key in dict.fromkeys(re.findall(r"`(\w+)`", sentence)) if key in keys]
        if named:
            current = meanings.setdefault(named[0], [])
        current.append(sentence)
        for key in named[1:]:
            meanings.setdefault(key, []).append(f"See `{named[0]}`.")
    return " ".join(about), {key: " ".join(dict.fromkeys(texts)) for key, texts in meanings.items()}


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor(name)})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema['items'])}" if schema.get("items") else "list"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"map to {_type(values)}" if isinstance(values, Mapping) else "map"
    return f"{kind or 'any'}{_range(schema)}"


def _range(schema: Json) -> str:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if lowest is None and highest is None:
        return ""
    return f" from {lowest}" if highest is None or highest > 1e6 else f" from {lowest} to {highest}"
