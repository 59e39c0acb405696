"""The published schema is made from the manifest's types, and every artifact keeps to it."""

import json
from pathlib import Path

import pytest

from runtime.manifest import LAYOUT
from runtime.manifest.schema import to_schema

SCHEMA = Path(__file__).parents[3] / "docs" / "manifest.schema.json"

pytestmark = pytest.mark.skipif(not SCHEMA.exists(), reason="the wheel has no docs/")


@pytest.fixture
def validate():
    jsonschema = pytest.importorskip("jsonschema")
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_bytes())).validate


@pytest.fixture
def manifest(tiny):
    return json.loads((tiny / LAYOUT.manifest).read_bytes())


def test_the_committed_schema_is_made_from_the_types():
    command = "python -m runtime.manifest.schema > docs/manifest.schema.json"
    assert SCHEMA.read_bytes() == to_schema(), command


def test_a_written_manifest_validates(validate, manifest):
    validate(manifest)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 1},
        {"task": {"kind": "guess"}},
        {"inputs": [{"kind": "image"}]},
        {"files": {"weights.bin": {"sha256": 3}}},
        {"unknown": True},
    ],
)
def test_what_the_runtime_refuses_does_not_validate(validate, manifest, change):
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        validate({**manifest, **change})
