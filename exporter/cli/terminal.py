"""Progress on a terminal, or in a log: a line per finished step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from exporter.progress import Step

_STEP_WIDTH = len("preprocessing")


class TerminalProgress:
    """Shows the running step with a spinner and its seconds, and each finished one as a line; in a log, lines alone."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._running = _Running()
        self._status = console.status(self._running)

    def __enter__(self) -> "TerminalProgress":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Show the imports inside the block as a step: PyTorch alone takes seconds, and nothing can be read before."""
        self.started("imports")
        start = time.perf_counter()
        yield
        self._print("imports", time.perf_counter() - start, "PyTorch and the other libraries")

    def started(self, name: str) -> None:
        """Show the step."""
        self._running.begin(name)

    def advanced(self, name: str, done: int, planned: int) -> None:
        """Show how far the step is."""
        self._running.text = f"{name}: {done} of {planned}"

    def finished(self, step: "Step") -> None:
        """Print the step as a line."""
        self._print(step.name, step.seconds, step.finding)

    def _print(self, name: str, seconds: float, finding: str) -> None:
        from rich.markup import escape
        from rich.table import Table

        line = Table.grid(padding=(0, 2))
        line.add_column(width=_STEP_WIDTH, style="bold")
        line.add_column(width=len("000.0 s"), justify="right", style="dim")
        line.add_column(overflow="fold")
        line.add_row(name, f"{seconds:.0f} s" if seconds >= 999.95 else f"{seconds:.1f} s", escape(finding))
        self._console.print(line)
        # What follows until the next step, such as the table of the results, belongs to none.
        self._running.begin("")


class _Running:
    """The running step in words, with its seconds; they count on while it says nothing."""

    def __init__(self) -> None:
        self.begin("")

    def begin(self, name: str) -> None:
        """Start counting for a step."""
        self.text = name
        self._start = time.perf_counter()

    def __rich__(self) -> str:
        from rich.markup import escape

        return f"{escape(self.text)}, {time.perf_counter() - self._start:.0f} s" if self.text else ""
