"""SARIF 2.1.0 report, for code scanning."""

import hashlib
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import msgspec

from runtime.evidence import STAGES, Evidence, Growth, Row
from runtime.reports.report import Report, name_of_row, problems_of
from runtime.reports.stage_help import STAGE_TEXTS, rule_of
from runtime.version import package_version

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_INCONCLUSIVE = "parity/inconclusive"
_DRIFT = "parity/drift"
_NEAR_TIE = "parity/near-tie"

# The rules that are not those of stages: a description of each, and advice.
_OTHER_RULES = {
    _INCONCLUSIVE: (
        "The check proves nothing: it could not run, or the outputs do not depend on the input.",
        "The message gives the reason. Nothing is known about the artifact until the check runs.",
    ),
    _DRIFT: (
        "A difference that is still under its limit grew since the baseline.",
        "Look at the versions that changed, which the message names; to accept the growth, write the baseline again.",
    ),
    _NEAR_TIE: (
        "The label differs where the original model's own margin is within its rounding noise.",
        "This is no fault of the artifact: on such an input the original itself may give either label.",
    ),
}


def to_sarif(report: Report) -> bytes:
    """Return one run, with a rule per stage and a result per row at fault, figure that grew and near tie.

    All results are at the artifact's manifest.
    """
    evidence = report.evidence
    rules = {rule_of(stage): STAGE_TEXTS[stage] for stage in STAGES} | _OTHER_RULES
    order = list(rules)
    results = [
        {
            "ruleId": rule,
            "ruleIndex": order.index(rule),
            "level": level,
            "message": {"text": message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(report.manifest)},
                        "region": {"startLine": 1},
                    },
                    "logicalLocations": [{"fullyQualifiedName": name}],
                }
            ],
            # All results are at one line of one file: their names identify them from run to run.
            "partialFingerprints": {"primaryLocationLineHash": f"{_digest(rule, name)}:1"},
        }
        for rule, level, name, message in _results(evidence)
    ]
    run = {
        "tool": {
            "driver": {
                "name": "truecopy",
                "version": package_version(),
                "rules": [_rule(identifier, *texts) for identifier, texts in rules.items()],
            }
        },
        "invocations": [{"executionSuccessful": bool(evidence.rows), "exitCode": 0 if evidence.passed else 1}],
        "results": results,
        "columnKind": "unicodeCodePoints",
        "properties": {"verdict": evidence.verdict, "maxRatio": evidence.max_ratio, "versions": evidence.tools},
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(log), indent=2) + b"\n"


def _results(evidence: Evidence) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rule, level, name and message of each result, the first fault first."""
    for subject, message in problems_of(evidence):
        match subject:
            case Row():
                yield rule_of(subject.stage), "error", name_of_row(subject), message
            case Growth():
                yield _DRIFT, "error", f"{name_of_row(subject)}, {subject.figure}", message
            case None:
                yield _INCONCLUSIVE, "error", evidence.artifact, message
    for tie in evidence.near_ties:
        message = (
            f"{tie.path}, {tie.input}: expected {tie.expected}, got {tie.got}; their scores differ by {tie.margin:.1e}"
        )
        yield _NEAR_TIE, "note", f"{tie.path}, {tie.input}", message


def _rule(identifier: str, what: str, advice: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "name": "".join(word.capitalize() for word in identifier.replace("/", "-").split("-")),
        "shortDescription": {"text": what},
        "fullDescription": {"text": f"{what} {advice}"},
        "help": {"text": advice},
        "defaultConfiguration": {"level": "note" if identifier == _NEAR_TIE else "error"},
    }


def _uri(path: str) -> str:
    pure = PurePath(path)
    return pure.as_uri() if pure.is_absolute() else quote(pure.as_posix())


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
