"""The parity table of the demo's artifact, in the pages that show it: scripts/demo --write."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console

from runtime.evidence import Evidence, Row
from runtime.manifest import LAYOUT
from runtime.reports.table import to_table

ROOT = Path(__file__).parents[2]

# The README has what users run, and the page about the proof all of it.
PAGES: dict[str, Callable[[Row], bool]] = {
    "README.md": lambda row: row.path == "runtime" or row.stage == "end to end",
    "docs/concepts/evidence.md": lambda _row: True,
}
_BLOCK = re.compile(r"(<!-- written by scripts/demo --write -->\n\n```text\n)(.*?)(```)", flags=re.DOTALL)


def render(evidence: Evidence, shown: Callable[[Row], bool]) -> str:
    """Return the verdict and the table, with the rows that are ``shown`` and without the notes below it, as text."""
    console = Console(width=116, no_color=True)
    rows = tuple(filter(shown, evidence.rows))
    table = msgspec.structs.replace(evidence, rows=rows, near_ties=(), whole=(), not_proven=(), fallbacks=())
    with console.capture() as capture:
        console.print(to_table(table))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def put(page: str, table: str) -> str:
    """Return the page with ``table`` where it shows the demo's; raises ValueError for a page without such a block."""
    written, count = _BLOCK.subn(lambda block: block[1] + table + block[3], page)
    if count != 1:
        raise ValueError(f"expected one block that the demo writes, got {count}")
    return written


def main(artifact: Path) -> None:
    """Write the table into each page."""
    evidence = msgspec.json.decode((artifact / LAYOUT.parity).read_bytes(), type=Evidence)
    for name, shown in PAGES.items():
        page = ROOT / name
        page.write_text(put(page.read_text(encoding="utf-8"), render(evidence, shown)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
