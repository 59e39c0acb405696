"""JUnit's XML, as GitLab, Jenkins and most other CI systems read it: a suite a path, a case a stage and group."""

import re
from xml.etree import ElementTree

from runtime.evidence import Drift, Evidence, Row
from runtime.reports.report import Report, name_of_row, say_figure, say_growth

# What XML 1.0 has no way to write.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(outcome: Report) -> bytes:
    """Return one case per path, stage and group of inputs: failed with the finding's sentence, or passed.

    A verdict of inconclusive is an error of a case called ``verdict``; what was not compared is skipped. No times and
    dates: the same check gives the same bytes.
    """
    evidence = outcome.evidence
    suites: dict[str, list[ElementTree.Element]] = {}
    for row in evidence.rows:
        suites.setdefault(f"{row.path} on {row.device}", []).append(_case_of(row, evidence))
    about = [_case(evidence, "verdict", "not compared", skipped=sentence) for sentence in evidence.not_compared]
    if evidence.verdict == "inconclusive":
        about.insert(0, _case(evidence, "verdict", "verdict", error=evidence.reason))
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
    case = _case(evidence, f"{row.path} on {row.device}", f"{row.stage}, {row.group}", failure=failure, row=row)
    lines = [f"{row.inputs} of {row.planned} inputs were compared"] if row.inputs != row.planned else []
    lines += [
        f"near tie on {tie.input}: eager says {tie.expected}, this path {tie.got}; eager's margin is {tie.margin:.1e}"
        for tie in evidence.near_ties
        if row.stage == "end to end" and tie.path == row.path and tie.input in _inputs(evidence, row.group)
    ]
    if lines:
        ElementTree.SubElement(case, "system-out").text = _clean("\n".join(lines))
    return case


def _case(
    evidence: Evidence,
    place: str,
    name: str,
    *,
    failure: str = "",
    error: str = "",
    skipped: str = "",
    row: Row | None = None,
) -> ElementTree.Element:
    # Jenkins takes what is before the last dot for a package.
    place = f"truecopy.{evidence.artifact.replace('.', '_')}.{place.replace('.', '_')}"
    case = ElementTree.Element("testcase", classname=_clean(place), name=_clean(name))
    for tag, text in (("failure", failure), ("error", error), ("skipped", skipped)):
        if text:
            kind = (row.fault or "drift") if row is not None else evidence.verdict
            element = ElementTree.SubElement(case, tag, message=_clean(text), type=kind)
            element.text = _clean(_details(row) if row is not None else text)
    return case


def _details(row: Row) -> str:
    """Return what a person reads who opens the failure."""
    facts = {
        "where": name_of_row(row),
        "worst input": row.worst_input,
        "largest difference": say_figure(row),
        "noise floor": "" if row.floor is None else f"{row.floor:.3g} {row.unit}",
        "limit": "" if row.limit is None else f"{row.limit:.3g} {row.unit}",
        "values that differ": "" if row.share is None else f"{row.share:.2%}",
        "labels that agree": "" if row.label_agreement is None else f"{row.label_agreement:.2%}",
    }
    return "\n".join((row.finding, *(f"{key}: {value}" for key, value in facts.items() if value)))


def _grown(row: Row, drift: Drift | None) -> str:
    """Return the sentence on a row that grew since the baseline, or nothing."""
    if drift is None:
        return ""
    return " ".join(say_growth(one, drift) for one in drift.grown if name_of_row(one) == name_of_row(row))


def _inputs(evidence: Evidence, group: str) -> tuple[str, ...]:
    return next((one.inputs for one in evidence.groups if one.name == group), ())


def _count(element: ElementTree.Element, cases: list[ElementTree.Element], *, skipped: bool) -> None:
    counts = {"tests": len(cases)}
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        counts[attribute] = sum(case.find(tag) is not None for case in cases)
    if not skipped:
        del counts["skipped"]  # an attribute of a suite alone
    for attribute, count in counts.items():
        element.set(attribute, str(count))


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
