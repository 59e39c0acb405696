"""JUnit XML report."""

import re
from typing import Literal
from xml.etree import ElementTree

from runtime.evidence import Drift, Evidence, Row
from runtime.reports.report import Report, describe_growth, format_figure, name_of_row

# Characters that XML 1.0 cannot contain.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: Report) -> bytes:
    """Return one suite per path and device, with one case per stage and group of inputs.

    A case fails with the sentence of its finding. An inconclusive verdict is an error of a case called ``verdict``;
    what is not proven is skipped. There are no times and dates, so that equal evidence gives equal bytes.
    """
    evidence = report.evidence
    suites: dict[str, list[ElementTree.Element]] = {}
    for row in evidence.rows:
        suites.setdefault(f"{row.path} on {row.device}", []).append(_case_of(row, evidence))
    about = [_case(evidence, "verdict", "not proven", ("skipped", sentence)) for sentence in evidence.not_proven]
    if evidence.verdict == "inconclusive":
        about.insert(0, _case(evidence, "verdict", "verdict", ("error", evidence.reason)))
    if about:
        suites["verdict"] = about
    root = ElementTree.Element("testsuites", name=_clean(f"truecopy parity {evidence.artifact}"))
    for name, cases in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", name=_clean(name))
        _count(suite, cases, skipped=True)
        properties = ElementTree.SubElement(suite, "properties")
        facts = {"verdict": evidence.verdict, "max_ratio": f"{evidence.max_ratio:g}", **evidence.tools}
        for key, value in facts.items():
            ElementTree.SubElement(properties, "property", name=_clean(key), value=_clean(value))
        suite.extend(cases)
    _count(root, [case for cases in suites.values() for case in cases], skipped=False)
    ElementTree.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root) + b"\n"


def _case_of(row: Row, evidence: Evidence) -> ElementTree.Element:
    failure = row.finding if row.fault is not None else _grown(row, evidence.drift)
    case = _case(evidence, f"{row.path} on {row.device}", f"{row.stage}, {row.group}", ("failure", failure), row)
    lines = [f"{row.inputs} of {row.planned} inputs were compared"] if row.inputs != row.planned else []
    lines += [
        f"near tie on {tie.input}: expected {tie.expected}, got {tie.got}; the eager model's margin is {tie.margin:.1e}"
        for tie in evidence.near_ties
        if row.stage == "end to end" and tie.path == row.path and tie.input in _inputs(evidence, row.group)
    ]
    if lines:
        ElementTree.SubElement(case, "system-out").text = _clean("\n".join(lines))
    return case


def _case(
    evidence: Evidence,
    suite: str,
    name: str,
    outcome: tuple[Literal["failure", "error", "skipped"], str],
    row: Row | None = None,
) -> ElementTree.Element:
    """Return a test case; it passed where the text of its outcome is empty."""
    # Jenkins takes the text before the last dot for a package.
    classname = f"truecopy.{evidence.artifact.replace('.', '_')}.{suite.replace('.', '_')}"
    case = ElementTree.Element("testcase", classname=_clean(classname), name=_clean(name))
    tag, text = outcome
    if text:
        kind = (row.fault or "drift") if row is not None else evidence.verdict
        element = ElementTree.SubElement(case, tag, message=_clean(text), type=kind)
        element.text = _clean(_details(row) if row is not None else text)
    return case


def _details(row: Row) -> str:
    """Return the text of a failure: its finding and figures, one per line."""
    facts = {
        "row": name_of_row(row),
        "worst input": row.worst_input,
        "largest difference": format_figure(row),
        "noise floor": "" if row.floor is None else f"{row.floor:.3g} {row.unit}",
        "limit": "" if row.limit is None else f"{row.limit:.3g} {row.unit}",
        "values that differ": "" if row.share is None else f"{row.share:.2%}",
        "labels that agree": "" if row.label_agreement is None else f"{row.label_agreement:.2%}",
    }
    return "\n".join((row.finding, *(f"{key}: {value}" for key, value in facts.items() if value)))


def _grown(row: Row, drift: Drift | None) -> str:
    """Return the sentences on figures of a row that grew since the baseline."""
    if drift is None:
        return ""
    return " ".join(describe_growth(growth, drift) for growth in drift.grown if name_of_row(growth) == name_of_row(row))


def _inputs(evidence: Evidence, group: str) -> tuple[str, ...]:
    return next((entry.inputs for entry in evidence.groups if entry.name == group), ())


def _count(element: ElementTree.Element, cases: list[ElementTree.Element], *, skipped: bool) -> None:
    counts = {"tests": len(cases)}
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        counts[attribute] = sum(case.find(tag) is not None for case in cases)
    if not skipped:
        del counts["skipped"]  # only suites have it
    for attribute, count in counts.items():
        element.set(attribute, str(count))


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
