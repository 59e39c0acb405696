"""GitHub annotations and job summary."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from runtime.evidence import Growth, Row
from runtime.reports.report import (
    Report,
    describe_growth,
    format_difference,
    format_ratio,
    format_share,
    name_of_row,
    problems_of,
    worst_rows,
)

# GitHub shows ten errors per step; the other reports have all of them.
_SHOWN = 10


def to_annotations(report: Report) -> str:
    """Return one line per row at fault or grown, at most ten, the first fault first; empty where all passed."""
    errors = [(_title(subject), message) for subject, message in problems_of(report.evidence)]
    if len(errors) > _SHOWN:
        rest = len(errors) - _SHOWN + 1
        errors[_SHOWN - 1 :] = [
            ("truecopy parity", f"{rest} more findings. The JUnit, SARIF and HTML reports list them all.")
        ]
    file = _property(report.manifest)
    return "".join(
        f"::error file={file},line=1,title={_property(title)}::{_data(message)}\n" for title, message in errors
    )


def to_summary(report: Report) -> str:
    """Return the verdict and a table of the worst row of each path and stage, as Markdown."""
    evidence = report.evidence
    sign = {"passed": "✅", "failed": "❌", "inconclusive": "⚠️"}[evidence.verdict]
    lines = [f"### {sign} parity of {_cell(evidence.artifact)}: {evidence.verdict}", ""]
    if evidence.reason:
        lines += [_cell(evidence.reason), ""]
    if evidence.rows:
        lines += [
            "| path | device | stage | largest difference | x noise | labels | verdict |",
            "|---|---|---|---:|---:|---:|---|",
        ]
    grown = {name_of_row(growth) for growth in evidence.drift.grown} if evidence.drift is not None else set()
    for row in worst_rows(evidence.rows):
        difference = format_difference(row)
        verdict = "passed" if row.passed else f"**{row.fault}** on {_cell(row.worst_input)}"
        if row.passed and name_of_row(row) in grown:
            verdict = "**grew**"
        labels = format_share(row.label_agreement)
        cells = (_cell(row.path), row.device, row.stage, _cell(difference), format_ratio(row), labels, verdict)
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"near tie on {tie.path}, {tie.input}: {tie.expected} or {tie.got}" for tie in evidence.near_ties]
    if evidence.drift is not None:
        notes += [describe_growth(growth, evidence.drift) for growth in evidence.drift.grown]
    notes += [*evidence.not_proven, *evidence.fallbacks]
    lines += ["", *(f"- {_cell(note)}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n\n"


def report_to_github(report: Report, environment: Mapping[str, str] = os.environ) -> str:
    """Append the summary to the job's, and return the annotations to print; does nothing outside GitHub Actions."""
    if environment.get("GITHUB_ACTIONS") != "true":
        return ""
    if path := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(to_summary(report))
    return to_annotations(report)


def _title(subject: Row | Growth | None) -> str:
    match subject:
        case Row():
            return f"parity: {subject.stage}"
        case Growth():
            return f"parity: drift, {subject.stage}"
    return "parity: inconclusive"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    """Return text escaped for a cell of a Markdown table."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))
