"""GitHub's annotations and job summary: the runner's escapes, its limits, and Markdown that holds its table."""

import re

import msgspec

from runtime.reports.github import report_to_github, to_annotations, to_summary


def unescape(text):
    return text.replace("%0A", "\n").replace("%0D", "\r").replace("%3A", ":").replace("%2C", ",").replace("%25", "%")


def test_every_fault_is_one_line_that_the_runner_reads_back(failed, outcome_of):
    lines = to_annotations(outcome_of(failed, manifest="a,b:c/truecopy.json")).splitlines()

    assert len(lines) == 2
    command = re.fullmatch(r"::error file=([^,:]*),line=1,title=([^,:]*)::(.*)", lines[0])
    assert unescape(command[1]) == "a,b:c/truecopy.json"
    assert unescape(command[2]) == "parity: geometry"
    assert failed.rows[0].finding in unescape(command[3])


def test_the_first_fault_comes_first_and_at_most_ten_are_printed(failed, row, outcome_of):
    rows = tuple(row(f"path {place}", fault="value", finding=f"finding {place}") for place in range(15))
    lines = to_annotations(outcome_of(msgspec.structs.replace(failed, rows=rows, first_fault=12))).splitlines()

    assert len(lines) == 10
    assert lines[0].endswith("finding 12")
    assert "6 more findings" in lines[-1]


def test_nothing_is_said_of_what_passed(passed, outcome_of):
    assert to_annotations(outcome_of(passed)) == ""


def test_the_summary_is_a_table_whatever_the_findings_say(failed, outcome_of):
    lines = to_summary(outcome_of(failed)).splitlines()

    table = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {8}
    assert len(table) == 2 + 6, "the head, and a line for each path and stage"
    assert any("37 gray levels" in line and "**value** on coffee" in line for line in table)
    assert "parity of mine.v2: failed" in lines[0]


def test_only_a_runner_of_githubs_is_told_and_the_summary_of_other_steps_is_kept(failed, outcome_of, tmp_path):
    summary = tmp_path / "summary.md"
    summary.write_text("of the step before\n")
    environment = {"GITHUB_STEP_SUMMARY": str(summary)}

    assert report_to_github(outcome_of(failed), environment) == ""
    assert summary.read_text() == "of the step before\n"
    assert report_to_github(outcome_of(failed), {**environment, "GITHUB_ACTIONS": "true"}).startswith("::error ")
    assert summary.read_text().startswith("of the step before\n### ")
