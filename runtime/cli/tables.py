"""Terminal output of the runtime's commands."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.markup import escape
from rich.table import Table

from runtime.console import open_console
from runtime.manifest import FULL_PRECISION

if TYPE_CHECKING:
    # What one command prints must not import what the others need.
    from runtime.artifact.diff import Comparison
    from runtime.bench import Baseline, BenchReport
    from runtime.doctor import Diagnosis
    from runtime.results import Result
    from runtime.verify import Verification

_BAR_WIDTH = 30
_VERDICTS = {"good": "[green]good[/]", "note": "[yellow]note[/]", "bad": "[red]bad [/]"}


def print_predictions(results: "Sequence[Result]") -> None:
    """Print one row per result of 'truecopy predict'."""
    from runtime.results import Failure, Prediction

    classified = all(isinstance(result, Failure | Prediction) for result in results)
    # Only the rows of variants name the precision that computed them.
    precise = any(getattr(result, "precision", "") for result in results if not isinstance(result, Failure))
    headings = ("input", "label", "probability", "next") if classified else ("input", "result")
    table = Table(*headings, *(["precision"] if precise else []), box=None, header_style="bold", pad_edge=False)
    # Short names stay whole; where room is short, the second label is cut before the first.
    table.columns[0].overflow = "fold"
    table.columns[0].min_width = min(32, max((len(result.input) for result in results), default=0))
    if classified:
        widths = [len(result.label) for result in results if isinstance(result, Prediction)]
        table.columns[1].min_width = min(16, max(widths, default=0))
        table.columns[2].justify, table.columns[2].no_wrap, table.columns[2].min_width = "right", True, 11
    for result in results:
        if isinstance(result, Failure):
            table.add_row(escape(result.input), f"[red]failed[/]: {escape(result.error)}")
            continue
        own = [getattr(result, "precision", "")] if precise else []
        if not isinstance(result, Prediction):
            table.add_row(escape(result.input), escape(str(result).removeprefix(f"{result.input}: ")), *own)
            continue
        second = "".join(f"{scored.label} {scored.probability:.1%}" for scored in result.top[1:2])
        table.add_row(escape(result.input), escape(result.label), f"{result.probability:.1%}", escape(second), *own)
    open_console().print(table)


def print_verification(verification: "Verification") -> None:
    """Print the checks and the verdict of 'truecopy verify'."""
    console = open_console()
    console.print(f"{verification.files} files: sizes and SHA-256 as exported")
    table = Table("check", "worst", "limit", "", "verdict", box=None, header_style="bold", pad_edge=False)
    for check in verification.checks:
        verdict = "[green]passed[/]" if check.passed else "[red]failed[/]"
        table.add_row(check.title, f"{check.worst:.2g}", f"{check.limit:g}", check.unit, verdict)
    console.print(table)
    verdict = "[green]passed[/]" if verification.passed else "[red]failed[/]"
    against = f", against {verification.compared_with}" if verification.precision != FULL_PRECISION else ""
    console.print(f"{verdict}: {verification.inputs} golden inputs on {verification.device}{against}")


def print_bench(report: "BenchReport") -> None:
    """Print the figures of 'truecopy bench'."""
    console = open_console()
    latency = report.latency
    console.print(
        f"{escape(report.artifact)} on {report.device}, {report.precision}, {report.cores} cores, {report.inputs} "
        f"inputs; load average before: {report.load1:.1f}"
    )
    console.print(
        f"load {report.load_ms:.0f} ms, first prediction {report.first_ms:.1f} ms, peak {report.peak_mb:.0f} MB"
    )
    console.print(
        f"one at a time: p50 {latency.p50_ms:.2f} ms, p90 {latency.p90_ms:.2f}, p99 {latency.p99_ms:.2f} "
        f"({latency.calls} calls)\n"
    )
    if report.deferred is not None:
        console.print(f"{report.deferred:.1%} of the rows ran again in {FULL_PRECISION}\n")
    stages = {
        "decode": report.stages.decode_ms,
        "geometry": report.stages.geometry_ms,
        "network": report.stages.network_ms,
        "rest": report.stages.rest_ms,
    }
    console.print(_bars("stage", "ms", stages))
    table = Table("workers x threads", "per second", "", "CPU ms each", box=None, header_style="bold", pad_edge=False)
    best = report.best.per_s
    for figure in report.throughput:
        plan = figure.plan
        mark = "* " if figure is report.best else "  "
        table.add_row(
            f"{mark}{plan.workers} x {plan.threads}, batch {plan.batch}",
            f"{figure.per_s:.1f}",
            Bar(best, 0, figure.per_s, width=_BAR_WIDTH),
            f"{figure.cpu_ms:.1f}",
        )
    console.print(table)
    plan = report.best.plan
    console.print(f"best: --workers {plan.workers} --threads {plan.threads} --batch {plan.batch}")
    if report.baselines:
        console.print()
        console.print(_baselines(report.baselines))


def print_diagnosis(diagnosis: "Diagnosis") -> None:
    """Print the findings of 'truecopy doctor', one per line."""
    console = open_console()
    for finding in diagnosis.findings:
        # One line each, whatever the terminal's width: their commands are meant to be copied.
        console.print(
            f"{_VERDICTS[finding.verdict]}  {escape(finding.subject)}: {escape(finding.detail)}", soft_wrap=True
        )


def print_comparison(comparison: "Comparison") -> None:
    """Print the differences of 'truecopy diff', one per row."""
    console = open_console()
    if comparison.equal:
        console.print("no difference")
        return
    table = Table("part", "what", "A", "B", box=None, header_style="bold", pad_edge=False)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.overflow = "fold"
    previous = ""
    for difference in comparison.differences:
        part = difference.part if difference.part != previous else ""
        table.add_row(part, *(escape(text or "-") for text in (difference.path, difference.first, difference.second)))
        previous = difference.part
    console.print(table)
    count = len(comparison.differences)
    consequence = "results may differ" if comparison.results_may_differ else "none of them changes a result"
    console.print(f"{count} difference{'s' if count > 1 else ''}; {consequence}", soft_wrap=True)


def _baselines(baselines: "Sequence[Baseline]") -> Table:
    table = Table("network alone", "first ms", "p50 ms", "", "ratio", "scores differ", box=None, pad_edge=False)
    ours = baselines[0].p50_ms
    slowest = max(baseline.p50_ms for baseline in baselines)
    for baseline in baselines:
        table.add_row(
            baseline.name,
            f"{baseline.first_ms:.1f}",
            f"{baseline.p50_ms:.2f}",
            Bar(slowest, 0, baseline.p50_ms, width=_BAR_WIDTH),
            f"{baseline.p50_ms / ours:.2f}",
            "" if baseline.difference is None else f"{baseline.difference:.1e}",
        )
    return table


def _bars(title: str, unit: str, values: dict[str, float]) -> Table:
    table = Table(title, unit, "", "share", box=None, header_style="bold", pad_edge=False)
    total = sum(values.values()) or 1.0
    for name, value in values.items():
        table.add_row(name, f"{value:.2f}", Bar(total, 0, value, width=_BAR_WIDTH), f"{value / total:.0%}")
    return table
