"""Progress on a terminal, or in a log: a line per finished step."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from exporter.progress import Step

_STEP_WIDTH = len("preprocessing")


class TerminalProgress:
    """Shows the running step with a spinner, and each finished one as a line; in a log, the lines alone."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._status = console.status("")
        self._start = 0.0

    def __enter__(self) -> "TerminalProgress":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def started(self, name: str) -> None:
        """Show the step."""
        self._start = time.perf_counter()
        self._status.update(name)

    def advanced(self, name: str, done: int, planned: int) -> None:
        """Show how far the step is."""
        self._status.update(f"{name}: {done} of {planned}, {time.perf_counter() - self._start:.0f} s")

    def finished(self, step: "Step") -> None:
        """Print the step as a line."""
        from rich.markup import escape
        from rich.table import Table

        line = Table.grid(padding=(0, 2))
        line.add_column(width=_STEP_WIDTH, style="bold")
        line.add_column(width=len("000.0 s"), justify="right", style="dim")
        line.add_column(overflow="fold")
        line.add_row(step.name, f"{step.seconds:.1f} s", escape(step.finding))
        self._console.print(line)
