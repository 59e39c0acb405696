"""Jupyter notebooks, executed as Python modules.

A notebook is JSON (nbformat 3 and 4). Its code cells run in their order and share one namespace. What only IPython
understands, magics and shell commands, is skipped.
"""

import ast
import json
import linecache
import re
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from exporter.errors import first_line
from exporter.object_path.statements import SourcePart, run_statements
from runtime.errors import listed

SUFFIX = ".ipynb"

# A line that only IPython understands: a magic, a shell command, a question; also where its result is assigned.
_IPYTHON = re.compile(r"\s*(?:[\w., ]+=\s*)?[%!?]|\s*[\w.]+\?{1,2}\s*$")

# Cell magics whose cells are Python.
_PYTHON_CELLS = re.compile(r"\s*%%(?:time|timeit|capture|prun)\b")


class NotebookLoader(Loader):
    """Loader of the notebook ``path`` for Python's import system."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create_module(self, _spec: ModuleSpec) -> None:
        """Return None: an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the notebook's cells."""
        run_notebook(self._path, module)


def run_notebook(path: Path, module: ModuleType) -> None:
    """Run the code cells of a notebook in the namespace of ``module``; stderr says what was skipped, and what failed.

    Raises ValueError where the file is no notebook, or has no code of Python.
    """
    # What IPython gives to every notebook.
    module.__dict__["display"] = lambda *_values, **_named: None
    skipped: list[str] = []
    parts: list[SourcePart] = []
    for number, text in _read_cells(path):
        source, lines = _without_magics(text)
        skipped += lines
        file = f"{path}, cell {number}"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        parts.append(SourcePart(text=source, file=file, cell=number))
    if skipped:
        sys.stderr.write(f"'{path}': skipped what only IPython runs: {listed([repr(line) for line in skipped], 4)}\n")
    run_statements(parts, path, module)


def _read_cells(path: Path) -> list[tuple[int, str]]:
    """Return the source of the code cells, with the number of each among all cells, from 1."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sheets = content.get("worksheets", [content])
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
        sources = [
            # nbformat 3 has 'input' in place of 'source'; both are a string, or a list of lines.
            (number, "".join(cell["source"] if "source" in cell else cell["input"]))
            for number, cell in enumerate(cells, 1)
            if cell["cell_type"] == "code"
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no Jupyter notebook: {type(error).__name__}: {first_line(error)}") from error
    language = (content.get("metadata") or {}).get("kernelspec", {}).get("language", "python")
    if str(language).lower() != "python":
        raise ValueError(f"its language is {language}, and not Python")
    return sources


def _without_magics(text: str) -> tuple[str, list[str]]:
    """Return a cell with ``pass`` for each line that only IPython understands, and these lines.

    Such a line is one that Python refuses: ``% b`` in the middle of an expression stays.
    """
    lines = text.splitlines()
    skipped: list[str] = []
    first = next((index for index, line in enumerate(lines) if line.strip()), None)
    if first is not None and lines[first].lstrip().startswith("%%") and not _PYTHON_CELLS.match(lines[first]):
        return "", [lines[first].strip()]
    while True:
        source = "".join(f"{line}\n" for line in lines)
        try:
            ast.parse(source)
        except SyntaxError as error:
            index = min(error.lineno or 1, len(lines)) - 1
            # A question mark or quotation mark in a command may be noticed before what stands above it.
            if not _IPYTHON.match(lines[index]):
                index = next((index for index, line in enumerate(lines) if re.match(r"\s*[%!]", line)), -1)
            if index < 0:
                return source, skipped
            skipped.append(lines[index].strip())
            _blank(lines, index)
        else:
            return source, skipped


def _blank(lines: list[str], index: int) -> None:
    """Put ``pass`` in place of a command, and nothing in place of the lines that continue it."""
    continued = lines[index].rstrip().endswith("\\")
    lines[index] = f"{lines[index][: len(lines[index]) - len(lines[index].lstrip())]}pass"
    while continued and index + 1 < len(lines):
        index += 1
        continued = lines[index].rstrip().endswith("\\")
        lines[index] = ""
