"""The evidence: what ``parity.json`` holds and the parity table shows."""

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from runtime.manifest import ParitySummary

if TYPE_CHECKING:
    from rich.table import Table

FORMAT_VERSION = 1

Stage: TypeAlias = Literal["geometry", "tokens", "arithmetic", "network", "end to end"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of one path, compared with the reference on all inputs.

    ``geometry``: the prepared pixels. ``arithmetic`` and ``network``: the network's input, and the scores, given what
    the reference prepared. ``end to end``: the scores from the raw input. Differences are absolute:
    ``pixel_difference`` in grey levels, ``pixel_share`` of all values, ``value_difference`` and its 99th percentile in
    the outputs' unit (``arithmetic``: the network's input's), outputs of a lesser limit brought to the largest; None
    where the stage has no such figure.
    """

    path: str
    stage: Stage
    inputs: int
    passed: bool
    worst_input: str
    finding: str
    pixel_difference: int | None = None
    pixel_share: float | None = None
    value_difference: float | None = None
    value_difference_p99: float | None = None
    label_agreement: float | None = None
    limit: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, and the rows that it rests on."""

    format_version: int = FORMAT_VERSION
    verdict: Literal["passed", "failed", "inconclusive"]
    reason: str
    signal: float
    inputs: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    rows: tuple[Row, ...]

    def summary(self) -> ParitySummary:
        """Return the worst figures of a report that passed."""
        assert self.verdict == "passed", self.reason
        last = "network" if any(row.stage == "network" for row in self.rows) else "end to end"
        return ParitySummary(
            verdict="passed",
            inputs=len(self.inputs),
            pixel_difference=max(
                (row.pixel_difference for row in self.rows if row.pixel_difference is not None), default=None
            ),
            score_difference=max(row.value_difference or 0.0 for row in self.rows if row.stage == last),
            label_agreement=min(
                (row.label_agreement for row in self.rows if row.label_agreement is not None), default=None
            ),
        )

    def to_table(self) -> "Table":
        """Return the parity table for a terminal."""
        from rich.table import Table

        table = Table(
            box=None, header_style="bold", pad_edge=False, title="parity with eager PyTorch", title_justify="left"
        )
        for name in ("path", "stage", "pixels", "largest", "99th pct", "labels", "verdict"):
            table.add_column(name, justify="left" if name in {"path", "stage", "verdict"} else "right")
        previous = ""
        for row in self.rows:
            levels = "" if row.pixel_difference is None else f"{row.pixel_difference} ({row.pixel_share:.3%})"
            table.add_row(
                row.path if row.path != previous else "",
                row.stage,
                levels,
                _figure(row.value_difference),
                _figure(row.value_difference_p99),
                "" if row.label_agreement is None else f"{row.label_agreement:.0%}",
                "[green]passed[/]" if row.passed else f"[red]failed[/] on {row.worst_input}",
            )
            previous = row.path
        return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"
