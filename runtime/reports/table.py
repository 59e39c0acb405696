"""Parity report for a terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from runtime.evidence import Evidence, Row
from runtime.reports.report import (
    describe_growth,
    describe_whole,
    format_difference,
    format_ratio,
    format_share,
    worst_rows,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLORS = {"passed": "green", "failed": "red", "inconclusive": "yellow"}
_LISTED = 5


def to_table(evidence: Evidence) -> "RenderableType":
    """Return the verdict and one row per path and stage: the worst figure of its groups."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    labels = any(row.label_agreement is not None for row in evidence.rows)
    heads = ("path", "stage", "inputs", "largest difference", "x noise", *(["labels"] if labels else []), "worst input")
    for name in (*heads, "verdict"):
        justify: Literal["left", "right"] = "right" if name in {"inputs", "x noise", "labels"} else "left"
        table.add_column(name, justify=justify, no_wrap=name in {"path", "stage"})
    previous = ""
    for row in worst_rows(evidence.rows):
        key = (row.path, row.device, row.stage)
        groups = [other for other in evidence.rows if (other.path, other.device, other.stage) == key]
        done, planned = sum(group.inputs for group in groups), sum(group.planned for group in groups)
        path = row.path if row.device == "cpu" else f"{row.path} on {row.device}"
        table.add_row(
            escape(path) if path != previous else "",
            row.stage,
            f"{done}" if done == planned else f"{done} of {planned}",
            _figure(row),
            format_ratio(row) if row.difference else "",
            *([_agreement(groups)] if labels else []),
            escape(row.worst_input) if row.difference or row.fault else "",
            "[green]passed[/]" if all(group.passed for group in groups) else f"[red]{row.fault}[/]",
        )
        previous = path
    verdict = f"parity with eager PyTorch: [{_COLORS[evidence.verdict]}]{evidence.verdict}[/]"
    limit = f"limit {evidence.max_ratio:g} times the noise floor; pixels, tokens and labels have to be equal"
    return Group(f"{verdict} ({limit})", table, *map(escape, _notes(evidence)))


def _figure(row: Row) -> str:
    text = format_difference(row)
    return text if row.difference is None or row.difference == 0 else f"{row.difference:.1e} {row.unit}"


def _agreement(rows: list[Row]) -> str:
    shares = [row.label_agreement for row in rows if row.label_agreement is not None]
    return format_share(min(shares)) if shares else ""


def _notes(evidence: Evidence) -> Iterator[str]:
    """Yield notes below the table, one line each."""
    if whole := describe_whole(evidence):
        yield f"compared whole: {whole}"
    for tie in evidence.near_ties[:_LISTED]:
        yield (
            f"near tie: {tie.path}, {tie.input}: '{tie.expected}' or '{tie.got}', whose scores differ by only "
            f"{tie.margin:.1e} in the eager model"
        )
    if len(evidence.near_ties) > _LISTED:
        yield f"near ties: {len(evidence.near_ties) - _LISTED} more"
    if evidence.drift is not None:
        for growth in evidence.drift.grown[:_LISTED]:
            yield f"drift: {describe_growth(growth, evidence.drift)}"
    for sentence in evidence.not_proven:
        yield f"not proven: {sentence}"
    for sentence in evidence.fallbacks:
        yield f"fallback: {sentence}"
