"""Comparison of two tokenizers by their parts."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from exporter.errors import first_line
from exporter.options.stated import stating_remedy
from runtime.evidence import WholeCheck

# The parts of a tokenizer's file that decide which tokens a text has, in the order in which it passes through them.
_PARTS = ("added_tokens", "normalizer", "pre_tokenizer", "model", "post_processor", "truncation", "padding")


def check_tokenizer(expected: bytes, path: Path) -> WholeCheck:
    """Return the check of a tokenizer's file with what the user's own tokenizer is, as a file; every token counts."""
    tokenizer = import_module("tokenizers").Tokenizer.from_str(expected.decode())
    try:
        finding = _describe_difference(_parts_of(expected), _parts_of(path.read_bytes()))
    except Exception as error:  # the library raises plain Exception
        finding = f"tokenizers cannot read it: {first_line(error)}"
    return WholeCheck(
        subject="tokenizer",
        path=path.name,
        stage="tokens",
        count=tokenizer.get_vocab_size(with_added_tokens=True),
        fault="value" if finding else None,
        finding=f"the tokenizer: {finding}; {stating_remedy('--tokenizer')}" if finding else "",
    )


def _parts_of(data: bytes) -> dict[str, Any]:
    """Return the parts of a tokenizer's file as the library itself writes them, with all of its defaults."""
    tokenizer = import_module("tokenizers").Tokenizer.from_str(data.decode())
    parts: dict[str, Any] = json.loads(tokenizer.to_str())
    return {name: parts.get(name) for name in _PARTS}


def _describe_difference(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    """Return the first part that differs, and the first value in it; empty where none does."""
    for name in _PARTS:
        difference = _first_difference(expected[name], actual[name], name)
        if difference:
            return difference
    return ""


def _first_difference(expected: Any, actual: Any, path: str) -> str:
    if type(expected) is type(actual) is dict:
        for key in [*expected, *(key for key in actual if key not in expected)]:
            if key not in expected or key not in actual:
                sides = [_shown(side.get(key, "none")) for side in (expected, actual)]
                return f"'{path}', '{key}': expected {sides[0]}, got {sides[1]}"
            difference = _first_difference(expected[key], actual[key], f"{path}.{key}")
            if difference:
                return difference
        return ""
    if type(expected) is type(actual) is list and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual, strict=True))
        found = (_first_difference(one, other, f"{path}[{index}]") for index, (one, other) in pairs)
        return next(filter(None, found), "")
    return "" if expected == actual else f"'{path}': expected {_shown(expected)}, got {_shown(actual)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
