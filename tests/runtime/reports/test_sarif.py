"""What code scanning needs of SARIF 2.1.0, by the fields that the format and GitHub require."""

import json

import msgspec
import pytest

from runtime.evidence import STAGES
from runtime.reports import compare_with_baseline
from runtime.reports.sarif import to_sarif


def read(outcome):
    log = json.loads(to_sarif(outcome))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    [run] = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "truecopy"
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["help"]["text"]
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"error", "note"}
        assert result["message"]["text"]
        [location] = result["locations"]
        physical = location["physicalLocation"]
        assert physical["artifactLocation"]["uri"] == "artifacts/mine/truecopy.json"
        assert physical["region"]["startLine"] >= 1
    prints = [result["partialFingerprints"]["primaryLocationLineHash"] for result in run["results"]]
    assert len(set(prints)) == len(prints)
    return run


def test_there_is_a_rule_for_every_stage(passed, outcome_of):
    run = read(outcome_of(passed))

    identifiers = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert identifiers[: len(STAGES)] == [f"parity/{stage.replace(' ', '-')}" for stage in STAGES]
    assert len(set(identifiers)) == len(identifiers)


def test_every_row_at_fault_is_an_error_and_a_near_tie_a_note(passed, failed, outcome_of):
    run = read(outcome_of(failed))

    assert [(one["ruleId"], one["level"]) for one in run["results"]] == [
        ("parity/geometry", "error"),
        ("parity/end-to-end", "error"),
        ("parity/near-tie", "note"),
    ]
    assert "on coffee: prepared <pixels>" in run["results"][0]["message"]["text"]
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 1}]
    assert [one["level"] for one in read(outcome_of(passed))["results"]] == ["note"]


def test_inconclusive_and_drift_have_rules_of_their_own(passed, inconclusive, outcome_of):
    assert read(outcome_of(inconclusive))["results"][0]["ruleId"] == "parity/inconclusive"

    rows = tuple(
        msgspec.structs.replace(one, difference=one.difference * 5 if one.stage == "network" else one.difference)
        for one in passed.rows
    )
    drifted = compare_with_baseline(msgspec.structs.replace(passed, rows=rows), passed, "old.json")
    results = read(outcome_of(drifted))["results"]
    assert [one["ruleId"] for one in results] == ["parity/drift"] * 4 + ["parity/near-tie"]


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("my models/a#1/truecopy.json", "my%20models/a%231/truecopy.json"),
        ("/x y/truecopy.json", "file:///x%20y/truecopy.json"),
    ],
)
def test_paths_are_uris(failed, outcome_of, path, uri):
    log = json.loads(to_sarif(outcome_of(failed, manifest=path)))

    location = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == uri


def test_the_same_fault_has_the_same_fingerprint_in_the_next_run(failed, row, outcome_of):
    again = row(stage="geometry", fault="value", finding="other figures", difference=38.0)
    later = msgspec.structs.replace(failed, rows=(again, *failed.rows[1:]))

    first, second = (read(outcome_of(one))["results"][0]["partialFingerprints"] for one in (failed, later))
    assert first == second
