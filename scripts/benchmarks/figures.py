"""Figures of a benchmark: what was claimed, measured and aimed at."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure; ``target`` is empty and ``met`` None where nothing was promised."""

    promise: str
    measured: str
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Results:
    """Results of one benchmark: ``details`` are for the JSON, ``tables`` for the terminal, before the figures."""

    figures: Sequence[Figure]
    details: dict[str, Any] = field(default_factory=dict)
    tables: Sequence[Table | str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the figures and the details as JSON values."""
        return {"figures": [asdict(figure) for figure in self.figures], **self.details}


def table_of(figures: Sequence[Figure]) -> Table:
    """Return a table of the figures and whether their targets are met."""
    table = Table("promise", "measured", "target", "", box=None, header_style="bold", pad_edge=False)
    for figure in figures:
        verdict = {True: "met", False: "[red]missed[/]", None: ""}[figure.met]
        table.add_row(figure.promise, figure.measured, figure.target, verdict)
    return table
