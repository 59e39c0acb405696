"""The documented schema is the types', and what is written keeps to it."""

import json
from pathlib import Path

import pytest

from runtime.evidence import evidence_to_json
from runtime.reports import compare_with_baseline
from runtime.reports.schema import to_schema

SCHEMA = Path(__file__).parents[3] / "docs" / "parity.schema.json"

needs_schema = pytest.mark.skipif(not SCHEMA.exists(), reason="the wheel has no docs/")


@needs_schema
def test_the_committed_schema_is_the_types():
    again = "python -m runtime.reports.schema > docs/parity.schema.json"
    assert SCHEMA.read_bytes() == to_schema(), again


@needs_schema
@pytest.mark.parametrize("name", ["passed", "failed", "inconclusive"])
def test_evidence_keeps_to_it(name, passed, request):
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_bytes())).validate
    evidence = request.getfixturevalue(name)

    check(json.loads(evidence_to_json(evidence)))
    check(json.loads(evidence_to_json(compare_with_baseline(evidence, passed, "old.json"))))


@needs_schema
@pytest.mark.parametrize(
    "change", [{"verdict": "fine"}, {"format_version": 1}, {"rows": [{}]}, {"max_ratio": "10"}, {"tools": None}]
)
def test_what_is_no_evidence_does_not(change, passed):
    jsonschema = pytest.importorskip("jsonschema")
    data = {**json.loads(evidence_to_json(passed)), **change}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_bytes())).validate(data)
