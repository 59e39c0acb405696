"""Progress as people see it: on a terminal with seconds that go on, in a log with a line per step."""

import io
import time

import pytest
from rich.console import Console

from exporter.cli.terminal import TerminalProgress
from exporter.progress import Count, Progress, Step


def run(console):
    """Run two steps, the first with inputs that are counted."""
    with TerminalProgress(console) as terminal:
        with terminal.loading():
            pass
        progress = Progress(terminal)
        with progress.step("compare") as step:
            count = Count(progress.advance, 2)
            count.next()
            count.next()
            time.sleep(0.2)  # a refresh of the terminal
            step.finding = "2 inputs: equal"
        with progress.step("golden") as step:
            step.finding = "none [here]"


def test_a_log_has_one_line_per_step_and_nothing_else():
    stream = io.StringIO()

    run(Console(file=stream, width=80))

    lines = [line.split() for line in stream.getvalue().splitlines() if line.strip()]
    assert [line[0] for line in lines] == ["imports", "compare", "golden"]
    assert [line[3:] for line in lines[1:]] == [["2", "inputs:", "equal"], ["none", "[here]"]]


def test_a_terminal_shows_how_many_inputs_are_done_and_the_seconds():
    stream = io.StringIO()

    run(Console(file=stream, width=80, force_terminal=True))

    assert "compare: 1 of 2, 0 s" in stream.getvalue()


def test_seconds_count_on_while_a_step_says_nothing():
    console = Console(file=io.StringIO(), width=80)
    terminal = TerminalProgress(console)
    terminal.started("ONNX")
    terminal._running._start -= 75

    assert terminal._running.__rich__() == "ONNX, 75 s"
    terminal.started("parity")
    assert terminal._running.__rich__() == "parity, 0 s"


def test_a_count_passes_on_what_is_done_before_each_input_and_never_more_than_planned():
    heard = []
    count = Count(lambda done, planned: heard.append((done, planned)), 3)
    count.next()
    count.skip_to(2)
    count.next()
    count.next()

    assert heard == [(0, 3), (2, 3)]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (999.94, "999.9 s"), (999.96, "1000 s"), (15032.0, "15032 s")]
)
def test_a_step_of_hours_is_one_line_as_any_other(seconds, shown):
    stream = io.StringIO()

    TerminalProgress(Console(file=stream, width=80)).finished(Step(name="parity", seconds=seconds, finding="equal"))

    (line,) = stream.getvalue().splitlines()
    assert line.split() == ["parity", *shown.split(), "equal"]
