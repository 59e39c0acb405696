"""Jupyter notebooks, executed as Python modules.

A notebook is JSON (nbformat 3 and 4). Its code cells run in their order and share one namespace. What only IPython
understands, magics and shell commands, is skipped. A statement that fails ends what the notebook *does*: of what
follows it, imports, definitions and assignments alone are run, so that data that is missing loses no class, and no
untrained weights are saved over the checkpoint.
"""

import ast
import json
import linecache
import re
import sys
from codeop import Compile
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from exporter.errors import first_line
from runtime.errors import listed

SUFFIX = ".ipynb"

# A line that only IPython understands: a magic, a shell command, a question; also where its result is assigned.
_IPYTHON = re.compile(r"\s*(?:[\w., ]+=\s*)?[%!?]|\s*[\w.]+\?{1,2}\s*$")

# Cell magics whose cells are Python.
_PYTHON_CELLS = re.compile(r"\s*%%(?:time|timeit|capture|prun)\b")

# Statements that are run even after one has failed; the first of all, a docstring, does nothing.
_DEFINITIONS = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AnnAssign,
)


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

    ``failures_of`` gives the failures again. Raises ValueError where the file is no notebook, or has no code of Python.
    """
    cells = _read_cells(path)
    # What IPython gives to every notebook.
    module.__dict__["display"] = lambda *_values, **_named: None
    skipped: list[str] = []
    failures: list[str] = []
    compiler = Compile()
    for number, text in cells:
        source, lines = _without_magics(text)
        skipped += lines
        file = f"{path}, cell {number}"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        try:
            statements = ast.parse(source).body
        except SyntaxError as error:
            failures.append(f"cell {number} failed: {type(error).__name__}: {first_line(error)}")
            continue
        for statement in statements:
            if failures and not isinstance(statement, _DEFINITIONS):
                continue
            try:
                # The compiler remembers imports from __future__, which hold for all that follows.
                code = compiler(ast.Module(body=[statement], type_ignores=[]), file, "exec")  # type: ignore[arg-type]
                exec(code, module.__dict__)  # noqa: S102 - a notebook is run as a script is
            except (Exception, SystemExit) as error:  # the user's notebook may raise anything
                line = source.splitlines()[statement.lineno - 1].strip()
                failures.append(f"cell {number} failed: {type(error).__name__}: {first_line(error)} ('{line:.80}')")
    module.__dict__["__failures__"] = tuple(failures)
    if skipped:
        sys.stderr.write(f"'{path}': skipped what only IPython runs: {listed([repr(line) for line in skipped], 4)}\n")
    if failures:
        sys.stderr.write(f"'{path}': {describe_failures(failures)}\n")


def failures_of(module: ModuleType) -> Sequence[str]:
    """Return what failed in the notebook that ``module`` was made of, one phrase per statement."""
    failures: Sequence[str] = getattr(module, "__failures__", ())
    return failures


def describe_failures(failures: Sequence[str]) -> str:
    """Return the first failure of a notebook, and how it went on, in a sentence."""
    more = f"; {len(failures) - 1} more failed" if len(failures) > 1 else ""
    return f"{failures[0]}; from there on its imports, definitions and assignments alone were run{more}"


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
