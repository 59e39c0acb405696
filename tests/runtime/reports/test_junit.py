"""What a CI system reads of JUnit's XML: the counts, the cases by name, and a sentence where one failed."""

from xml.etree import ElementTree

import msgspec
import pytest

from runtime.reports import compare_with_baseline, unfinished
from runtime.reports.junit import to_junit

# The schema that Jenkins' xUnit plugin checks with, in short: an element's attributes and children; * is required.
SHAPE = {
    "testsuites": ({"name", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": ({"name*", "tests*", "failures*", "errors*", "skipped"}, {"properties", "testcase"}),
    "properties": (set(), {"property"}),
    "property": ({"name*", "value*"}, set()),
    "testcase": ({"name*", "classname"}, {"failure", "error", "skipped", "system-out"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "skipped": ({"message", "type"}, set()),
    "system-out": (set(), set()),
}


def check_shape(element):
    attributes, children = SHAPE[element.tag]
    assert set(element.attrib) <= {name.rstrip("*") for name in attributes}, element.tag
    assert {name.rstrip("*") for name in attributes if name.endswith("*")} <= set(element.attrib), element.tag
    for child in element:
        assert child.tag in children, (element.tag, child.tag)
        check_shape(child)


def read(outcome):
    root = ElementTree.fromstring(to_junit(outcome))  # noqa: S314 - our own
    check_shape(root)
    for suite in root:
        cases = suite.findall("testcase")
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(attribute)) == sum(case.find(tag) is not None for case in cases)
        assert int(suite.get("tests")) == len(cases)
    assert int(root.get("tests")) == len(root.findall(".//testcase"))
    assert int(root.get("failures")) == len(root.findall(".//failure"))
    assert int(root.get("errors")) == len(root.findall(".//error"))
    return root


@pytest.mark.parametrize("name", ["passed", "failed", "inconclusive"])
def test_there_is_one_case_for_each_path_stage_and_group(name, outcome_of, request):
    evidence = request.getfixturevalue(name)
    root = read(outcome_of(evidence))

    cases = [
        (suite.get("name"), case.get("name"))
        for suite in root.findall("testsuite")
        for case in suite.findall("testcase")
        if suite.get("name") != "verdict"
    ]
    assert cases == [(f"{row.path} on {row.device}", f"{row.stage}, {row.group}") for row in evidence.rows]
    assert len({(case.get("classname"), case.get("name")) for case in root.iter("testcase")}) == int(root.get("tests"))


def test_a_failure_has_the_findings_sentence_whatever_is_in_it(failed, outcome_of):
    root = read(outcome_of(failed))

    [first, second] = root.findall(".//failure")
    assert first.get("message").startswith(
        "prepared <pixels> & 'others': 100% off, 3::error ]]> \N{REPLACEMENT CHARACTER}"
    )
    assert "worst input: coffee\nlargest difference: 37 gray levels" in first.text
    assert (first.get("type"), second.get("type")) == ("value", "label")
    assert root.find(".//error") is None


def test_inconclusive_is_an_error_and_what_was_not_compared_is_skipped(inconclusive, outcome_of):
    root = read(outcome_of(inconclusive))

    [error] = root.findall(".//error")
    assert error.get("message") == "every input has the same scores"
    assert [one.get("message") for one in root.iter("skipped")] == ["CUDA: this machine has no such device"]
    assert root.find(".//failure") is None


def test_a_check_that_could_not_be_made_is_an_error(outcome_of):
    evidence = unfinished("mine", "'labels.txt': damaged", max_ratio=10.0, tools={})

    assert [one.get("message") for one in read(outcome_of(evidence)).iter("error")] == ["'labels.txt': damaged"]


def test_a_figure_that_grew_fails_its_own_case(passed, row, outcome_of):
    rows = [row(one.path, one.stage, one.group, difference=(one.difference or 0) * 5) for one in passed.rows[:3]]
    now = msgspec.structs.replace(passed, rows=(*rows, *passed.rows[3:]))
    root = read(outcome_of(compare_with_baseline(now, passed, "old.json")))

    [case] = [case for case in root.iter("testcase") if case.find("failure") is not None]
    assert (case.get("classname"), case.get("name")) == ("truecopy.mine_v2.model_onnx on cpu", "network, photos")
    assert case.find("failure").get("type") == "drift"


def test_fewer_inputs_than_planned_and_near_ties_are_told(passed, row, outcome_of):
    rows = (row("runtime", "end to end", "generated", planned=9), *passed.rows[1:])
    root = read(outcome_of(msgspec.structs.replace(passed, rows=rows)))

    said = [one.text for one in root.iter("system-out")]
    assert "2 of 9 inputs were compared" in said[0]
    assert "near tie on tall: expected cat, got dog" in said[0]
