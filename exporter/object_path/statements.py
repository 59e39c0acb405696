"""Statements of scripts and notebooks, run one by one: one that fails loses no definition.

A script parses its arguments, reads its data and trains where its classes are defined. A statement that fails ends
what the source *does*: of what follows it, imports, definitions and assignments alone are run, so that data that is
missing loses no class, and no untrained weights are saved over the checkpoint.
"""

import ast
import sys
from codeop import Compile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from exporter.errors import first_line
from runtime.errors import bounded

_FAILURES = "__failures__"

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


# Where the sources that were not run whole are noted.
_skipped: ContextVar[list[str] | None] = ContextVar("skipped", default=None)


@contextmanager
def noting_skipped() -> Iterator[Sequence[str]]:
    """Give a list that gets a sentence, for the evidence, on each source inside the block that is not run whole."""
    sentences: list[str] = []
    token = _skipped.set(sentences)
    try:
        yield sentences
    finally:
        _skipped.reset(token)


@dataclass(frozen=True, kw_only=True)
class SourcePart:
    """A script, or a cell of a notebook: its text, the file that tracebacks name, and its number as a cell."""

    text: str
    file: str
    cell: int | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A statement that failed: where, its first line, and what it raised."""

    where: str
    line: str
    error: BaseException

    def __str__(self) -> str:
        code = f" ('{bounded(self.line, 80)}')" if self.line else ""
        return f"{self.where} failed: {type(self.error).__name__}: {first_line(self.error)}{code}"


def run_statements(parts: Iterable[SourcePart], path: Path, module: ModuleType) -> None:
    """Run the statements in the namespace of ``module``; stderr says what failed, and ``failures_of`` gives it again.

    Raises SyntaxError where a script is no Python; a cell that is none has failed.
    """
    failures: list[Failure] = []
    compiler = Compile()
    for part in parts:
        try:
            statements = ast.parse(part.text, part.file).body
        except SyntaxError as error:
            if part.cell is None:
                raise
            failures.append(Failure(where=f"cell {part.cell}", line="", error=error))
            continue
        for statement in statements:
            if failures and not _defines(statement):
                continue
            try:
                # The compiler remembers imports from __future__, which hold for all that follows.
                body = ast.Module(body=[statement], type_ignores=[])
                code = compiler(body, part.file, "exec")  # type: ignore[arg-type]
                exec(code, module.__dict__)  # noqa: S102 - it is run as Python runs a script
            except (Exception, SystemExit) as error:  # the user's source may raise anything
                where = f"line {statement.lineno}" if part.cell is None else f"cell {part.cell}"
                line = part.text.splitlines()[statement.lineno - 1].strip()
                failures.append(Failure(where=where, line=line, error=error))
    module.__dict__[_FAILURES] = tuple(failures)
    if failures:
        sys.stderr.write(f"'{path}': {describe_failures(failures)}\n")
        sentence = f"what '{path.name}' does behind imports, definitions and assignments: {failures[0]}"
        noted = _skipped.get()
        if noted is not None and sentence not in noted:
            noted.append(sentence)


def failures_of(namespace: object) -> Sequence[Failure]:
    """Return what failed in the source that a module, or a function's globals, are of."""
    values = namespace if isinstance(namespace, dict) else vars(namespace)
    failures: Sequence[Failure] = values.get(_FAILURES, ())
    return failures


def describe_failures(failures: Sequence[Failure]) -> str:
    """Return the first failure of a source, and how it went on, in a sentence."""
    more = f"; {len(failures) - 1} more failed" if len(failures) > 1 else ""
    return f"{failures[0]}; from there on its imports, definitions and assignments alone were run{more}"


def guarded_names(path: Path) -> Sequence[str]:
    """Return what a script defines under ``if __name__ == "__main__":``, which an import does not run."""
    tree = ast.parse(path.read_bytes())
    guards = [node for node in tree.body if isinstance(node, ast.If) and "__name__" in ast.dump(node.test)]
    definitions = (ast.ClassDef, ast.FunctionDef)
    names = [node.name for guard in guards for node in ast.walk(guard) if isinstance(node, definitions)]
    targets = [node.targets[0] for guard in guards for node in guard.body if isinstance(node, ast.Assign)]
    return [*names, *(target.id for target in targets if isinstance(target, ast.Name))]


def relative_level(path: Path) -> int:
    """Return how many packages a script's relative imports begin at: 1 for ``from .net import Net``; 0 for none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # said where it is run
        return 0
    return max((node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0)


def _defines(statement: ast.stmt) -> bool:
    """Return whether a statement only imports and defines, as ``try: import ... except ImportError`` also does."""
    if isinstance(statement, ast.If):
        return all(map(_defines, (*statement.body, *statement.orelse)))
    if isinstance(statement, ast.Try):
        handled = (inner for handler in statement.handlers for inner in handler.body)
        return all(map(_defines, (*statement.body, *handled, *statement.orelse, *statement.finalbody)))
    return isinstance(statement, (*_DEFINITIONS, ast.Pass))
