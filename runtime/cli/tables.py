"""Reports for people, on a terminal: tables and bars."""

from rich.bar import Bar
from rich.markup import escape
from rich.table import Table

from runtime.artifact.diff import Comparison
from runtime.bench import BenchReport
from runtime.console import open_console
from runtime.doctor import Diagnosis

_BAR_WIDTH = 30
_VERDICTS = {"good": "[green]good[/]", "note": "[yellow]note[/]", "bad": "[red]bad [/]"}


def print_bench(report: BenchReport) -> None:
    """Print what 'truecopy bench' found."""
    console = open_console()
    latency = report.latency
    console.print(
        f"{escape(report.artifact)} on {report.device}, {report.cores} cores, {report.inputs} inputs; "
        f"load average before: {report.load1:.1f}"
    )
    console.print(f"load {report.load_ms:.0f} ms, first answer {report.first_ms:.1f} ms, peak {report.peak_mb:.0f} MB")
    console.print(
        f"one at a time: p50 {latency.p50_ms:.2f} ms, p90 {latency.p90_ms:.2f}, p99 {latency.p99_ms:.2f} "
        f"({latency.calls} calls)\n"
    )
    stages = {
        "decode": report.stages.decode_ms,
        "geometry": report.stages.geometry_ms,
        "network": report.stages.network_ms,
        "rest": report.stages.rest_ms,
    }
    console.print(_bars("where the time goes", "ms", stages))
    rates = {
        f"{'* ' if one is report.best else '  '}{one.plan.workers} x {one.plan.threads}, batch {one.plan.batch}": (
            one.per_s,
            f"{one.cpu_ms:.1f}",
        )
        for one in report.throughput
    }
    table = Table("workers x threads", "a second", "", "CPU ms each", box=None, header_style="bold", pad_edge=False)
    best = report.best.per_s
    for name, (rate, cpu_ms) in rates.items():
        table.add_row(name, f"{rate:.1f}", Bar(best, 0, rate, width=_BAR_WIDTH), cpu_ms)
    console.print(table)
    plan = report.best.plan
    console.print(f"best: --workers {plan.workers} --threads {plan.threads} --batch {plan.batch}")
    if report.contenders:
        console.print()
        against = Table("network alone", "first ms", "p50 ms", "", "times", "scores differ", box=None, pad_edge=False)
        ours = report.contenders[0].p50_ms
        slowest = max(one.p50_ms for one in report.contenders)
        for one in report.contenders:
            bar = Bar(slowest, 0, one.p50_ms, width=_BAR_WIDTH)
            against.add_row(
                one.name,
                f"{one.first_ms:.1f}",
                f"{one.p50_ms:.2f}",
                bar,
                f"{one.p50_ms / ours:.2f}",
                "" if one.difference is None else f"{one.difference:.1e}",
            )
        console.print(against)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print what 'truecopy doctor' found, a line a finding."""
    console = open_console()
    for finding in diagnosis.findings:
        # One line each, whatever the terminal's width: their commands are there to be copied.
        console.print(
            f"{_VERDICTS[finding.verdict]}  {escape(finding.subject)}: {escape(finding.found)}", soft_wrap=True
        )


def print_comparison(comparison: Comparison) -> None:
    """Print what 'truecopy diff' found, a row a difference."""
    console = open_console()
    if comparison.equal:
        console.print("no difference")
        return
    table = Table("part", "what", "A", "B", box=None, header_style="bold", pad_edge=False)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.overflow = "fold"
    previous = ""
    for one in comparison.differences:
        part = one.part if one.part != previous else ""
        table.add_row(part, *(escape(text or "-") for text in (one.place, one.first, one.second)))
        previous = one.part
    console.print(table)
    count = len(comparison.differences)
    consequence = "answers may differ" if comparison.answers_may_differ else "none of them changes an answer"
    console.print(f"{count} difference{'s' if count > 1 else ''}; {consequence}", soft_wrap=True)


def _bars(title: str, unit: str, values: dict[str, float]) -> Table:
    table = Table(title, unit, "", "share", box=None, header_style="bold", pad_edge=False)
    total = sum(values.values()) or 1.0
    for name, value in values.items():
        table.add_row(name, f"{value:.2f}", Bar(total, 0, value, width=_BAR_WIDTH), f"{value / total:.0%}")
    return table
