"""GitHub's own forms: annotations on a run, as workflow commands, and the summary of a job, as Markdown."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from runtime.evidence import Evidence
from runtime.reports.report import Report, name_of_row, say_figure, say_growth, say_ratio, say_share, worst_rows

# GitHub shows ten errors and ten warnings of a step; the rest is in the other reports.
_SHOWN = 10


def to_annotations(outcome: Report) -> str:
    """Return a line for every row at fault or grown, at most ten; the first fault first; empty where all passed."""
    evidence = outcome.evidence
    found = list(_errors(evidence))
    if len(found) > _SHOWN:
        rest = len(found) - _SHOWN + 1
        found[_SHOWN - 1 :] = [
            ("truecopy parity", f"{rest} more findings. The JUnit, SARIF and HTML reports have all.")
        ]
    place = _property(outcome.manifest)
    return "".join(
        f"::error file={place},line=1,title={_property(title)}::{_data(message)}\n" for title, message in found
    )


def to_summary(outcome: Report) -> str:
    """Return the verdict and a table of the worst row of each path and stage, as Markdown."""
    evidence = outcome.evidence
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
        difference = say_figure(row).partition(",")[0]
        verdict = "passed" if row.passed else f"**{row.fault}** on {_cell(row.worst_input)}"
        if row.passed and name_of_row(row) in grown:
            verdict = "**grew**"
        labels = say_share(row.label_agreement)
        cells = (_cell(row.path), row.device, row.stage, _cell(difference), say_ratio(row), labels, verdict)
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"near tie on {tie.path}, {tie.input}: {tie.expected} or {tie.got}" for tie in evidence.near_ties]
    if evidence.drift is not None:
        notes += [say_growth(growth, evidence.drift) for growth in evidence.drift.grown]
    notes += evidence.not_compared
    lines += ["", *(f"- {_cell(note)}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n\n"


def tell_github(outcome: Report, environment: Mapping[str, str] = os.environ) -> str:
    """Append the summary to the job's, and return the annotations to print; nothing outside GitHub's runners."""
    if environment.get("GITHUB_ACTIONS") != "true":
        return ""
    if place := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(place).open("a", encoding="utf-8") as stream:
            stream.write(to_summary(outcome))
    return to_annotations(outcome)


def _errors(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Give the title and message of each error."""
    rows = [row for row in evidence.rows if row.fault is not None]
    first = evidence.rows[evidence.first_fault] if evidence.first_fault is not None else None
    for row in sorted(rows, key=lambda row: row is not first):
        yield f"parity: {row.stage}", f"{name_of_row(row)}, on {row.worst_input}: {row.finding}"
    if evidence.verdict == "inconclusive":
        yield "parity: inconclusive", evidence.reason
    if evidence.drift is not None:
        for growth in evidence.drift.grown:
            yield f"parity: drift, {growth.stage}", say_growth(growth, evidence.drift)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    """Return text that Markdown shows as it is, on one line of a table."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))
