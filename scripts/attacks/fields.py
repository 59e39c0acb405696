"""Every field of a manifest, as its JSON schema lists them: removed, given twice, and with hostile values."""

import copy
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from support.hostile_files import VALUES

from runtime.artifact.open import open_artifact
from runtime.errors import TruecopyError
from runtime.manifest import LAYOUT
from runtime.manifest.schema import to_schema

MOST_SECONDS, LONGEST_MESSAGE = 10, 2000

_Path: TypeAlias = tuple[str | int, ...]
_Node: TypeAlias = Mapping[str, Any]

_SCHEMA = json.loads(to_schema())

# What JSON text has and Python's values lack, or would take long to make.
_TEXTS = (
    *(b"NaN", b"Infinity", b"1e999", b"-1e999", b"-0.0", b"1.5e0", b"9" * 5000, b"-" + b"9" * 400),
    *(b'"\\ud83d"', b'"\xff"', b'"' + b"x" * 2**20 + b'"', b'"/dev/zero"', b'"NUL"', b'"truecopy.json"', b'".."'),
    *(b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b"[" + b"0," * 100_000 + b"0]"),
)
_MARK = "what stands where a text goes"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The text of a manifest with one field changed; ``twice`` where a name is there twice."""

    name: str
    text: bytes
    twice: bool = False


def manifests(document: Any) -> Iterator[Manifest]:
    """Yield manifests that each have one hostile field.

    The fields are those of ``document``, and those of every type of the schema that it lacks.
    """
    for whole, start in _documents(document):
        for path, _ in _fields(whole, start):
            yield from _changes(whole, path)


def outcome(artifact: Path, manifest: Manifest) -> tuple[bool, str]:
    """Open ``artifact`` with a manifest; return whether it was accepted, and what was wrong with that."""
    (artifact / LAYOUT.manifest).write_bytes(manifest.text)
    started = time.monotonic()
    accepted, fault = False, ""
    try:
        open_artifact(artifact)
        accepted = True
    except TruecopyError as error:
        if len(str(error)) > LONGEST_MESSAGE or "\n" in str(error):
            fault = f"a message of {len(str(error))} characters"
    except BaseException as error:  # whatever it is, the manifest has led to it
        fault = f"{type(error).__name__}: {error}"[:500]
    if time.monotonic() - started > MOST_SECONDS:
        fault = f"{time.monotonic() - started:.0f} s"
    if accepted and manifest.twice:
        fault = "accepted, although a name is there twice"
    return accepted, fault


def _documents(document: Any) -> Iterator[tuple[Any, _Path]]:
    """Yield the document, and one for each type that it lacks, with the path under which it has an example of it."""
    seen: set[str] = set()
    pending: list[tuple[Any, _Path]] = [(document, ())]
    while pending:
        whole, start = pending.pop()
        yield whole, start
        fields = list(_fields(whole, start))
        seen |= {name for _, node in fields for name in _names(node) if len(_names(node)) == 1}
        for path, node in fields:
            for name in _names(node):
                if name not in seen:
                    seen.add(name)
                    pending.append((_with(whole, path, _example(_SCHEMA["$defs"][name])), path))
            for option in (node, *node.get("anyOf", [])):
                for name in _names(option.get("items") or {}):
                    if name not in seen:
                        seen.add(name)
                        pending.append((_with(whole, path, [_example(_SCHEMA["$defs"][name])]), (*path, 0)))


def _fields(document: Any, start: _Path) -> Iterator[tuple[_Path, _Node]]:
    """Yield the path of each field below ``start``, with its schema; those that the document lacks as well."""
    node: _Node = _SCHEMA
    value = document
    for key in start:
        node, value = _below(node, value, key), value[key]
    yield from _walk(node, value, start)


def _walk(node: _Node, value: Any, path: _Path) -> Iterator[tuple[_Path, _Node]]:
    if path:
        yield path, node
    resolved = _resolved(node, value)
    if isinstance(value, dict):
        for key in dict.fromkeys([*value, *resolved.get("properties", {})]):
            if key in value:
                yield from _walk(_below(node, value, key), value[key], (*path, key))
            else:
                yield (*path, key), resolved["properties"][key]
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(_below(node, value, index), item, (*path, index))


def _below(node: _Node, value: Any, key: str | int) -> _Node:
    resolved = _resolved(node, value)
    if isinstance(key, str):
        below = resolved.get("properties", {}).get(key, resolved.get("additionalProperties"))
    else:
        first = resolved.get("prefixItems", [])
        below = first[key] if key < len(first) else resolved.get("items")
    return below if isinstance(below, dict) else {}


def _resolved(node: _Node, value: Any) -> _Node:
    """Return the schema of a value behind references and alternatives."""
    if "$ref" in node:
        return _resolved(_SCHEMA["$defs"][_name(node)], value)
    kind = {dict: "object", list: "array"}.get(type(value))
    options = node.get("anyOf", [])
    tag = node.get("discriminator", {})
    if tag and isinstance(value, dict) and value.get(tag["propertyName"]) in tag["mapping"]:
        options = [{"$ref": tag["mapping"][value[tag["propertyName"]]]}]
    for option in options:
        resolved = _resolved(option, value)
        if kind and resolved.get("type") == kind:
            return resolved
    return node


def _names(node: _Node) -> list[str]:
    """Return the types that a field may have."""
    return [_name(option) for option in (node, *node.get("anyOf", [])) if "$ref" in option]


def _name(node: _Node) -> str:
    return str(node["$ref"]).rpartition("/")[2]


def _example(node: _Node) -> Any:
    """Return a value that the schema allows."""
    if "$ref" in node:
        return _example(_SCHEMA["$defs"][_name(node)])
    if "anyOf" in node:
        return _example(node["anyOf"][0])
    if "enum" in node or "const" in node:
        return node["const"] if "const" in node else node["enum"][0]
    match node.get("type"):
        case "object":
            return {name: _example(node["properties"][name]) for name in node.get("required", [])}
        case "array":
            first = node.get("prefixItems", [])
            return [_example(item) for item in first or [node.get("items") or {}] * node.get("minItems", 0)]
        case "string":
            return "a" * 64 if "pattern" in node else "batch"
        case "integer" | "number":
            return max(1, node.get("minimum", 1)) if node.get("maximum", 1) >= 1 else node["maximum"]
        case "boolean":
            return False
    return None


def _changes(document: Any, path: _Path) -> Iterator[Manifest]:
    where = "/".join(map(str, path))
    for value in VALUES:
        text = json.dumps(_with(document, path, value)).encode()
        yield Manifest(name=f"{where} = {str(value)[:40]}", text=text)
    marked = json.dumps(_with(document, path, _MARK)).encode()
    for text in _TEXTS:
        yield Manifest(name=f"{where} = {text[:40]!r}", text=marked.replace(json.dumps(_MARK).encode(), text))
    parent = _at(document, path[:-1])
    key = path[-1]
    if isinstance(parent, list) or key in parent:
        without = copy.deepcopy(document)
        del _at(without, path[:-1])[key]
        yield Manifest(name=f"{where} removed", text=json.dumps(without).encode())
    if isinstance(parent, dict) and key in parent:
        own = json.dumps(parent[key]).encode()
        for other in (own, b"null", b'"a"', b"0"):
            twice = other + b"," + json.dumps(key).encode() + b":" + own
            text = marked.replace(json.dumps(_MARK).encode(), twice)
            yield Manifest(name=f"{where} twice, first {other[:40]!r}", text=text, twice=True)


def _with(document: Any, path: _Path, value: Any) -> Any:
    changed = copy.deepcopy(document)
    _at(changed, path[:-1])[path[-1]] = value
    return changed


def _at(document: Any, path: _Path) -> Any:
    for key in path:
        document = document[key]
    return document
