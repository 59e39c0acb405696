"""Objects in a user's source, by ``FILE.py:NAME``, ``FILE.ipynb:NAME`` or ``package.module:NAME``."""

import ast
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from exporter.errors import ExportError
from exporter.object_path.notebooks import SUFFIX, NotebookLoader
from exporter.object_path.statements import (
    Failure,
    SourcePart,
    describe_failures,
    failures_of,
    guarded_names,
    relative_level,
    run_statements,
)
from runtime.errors import listed

_FILES = (".py", SUFFIX)

# FILE.py:NAME and FILE.ipynb:NAME, where a NAME may have colons of its own.
_OF_FILE = re.compile(r"(.+?\.(?:py|ipynb))(?::(.*))?", re.DOTALL)

_NOTHING = "it defines no class, function or transform"

# Ours that a user's own modules may be named as.
_PACKAGES = ("exporter", "runtime")


def is_reference(text: str) -> bool:
    """Return whether ``text`` reads ``FILE.py:NAME`` or ``package.module:NAME``, or is such a file without a name."""
    return ":" in text or text.endswith(_FILES)


def load_object(reference: str, *, error: type[ExportError]) -> object:
    """Return the object that ``reference`` names.

    NAME may be dotted, an entry such as ``transforms["val"]``, and called with plain values, as in
    ``get_transform(train=False)`` or ``Data().transform``. This imports the user's module, and so runs it. Raises
    ``error`` when there is no such file, module or name, or when importing or calling it fails; the message lists what
    the module defines where the name is wrong, or missing.
    """
    location, name = split_reference(reference)
    module = import_source(location, subject=reference, error=error)
    try:
        return _evaluate(ast.parse(name, mode="eval").body, module)
    except (SyntaxError, LookupError, AttributeError):
        raise error(f"'{reference}': {_no_such_name(name, location, module)}") from None
    except _CallError as problem:
        cause = problem.__cause__
        raise error(
            f"'{reference}': calling '{problem}' failed: {type(cause).__name__}: {cause}. Name what can be called with "
            "plain values, or bind its result to a name in the file."
        ) from cause


def split_reference(reference: str) -> tuple[str, str]:
    """Return the file or module of a reference, and the name in it, which is empty where there is none."""
    of_file = _OF_FILE.fullmatch(reference)
    if of_file is not None:
        return of_file[1], of_file[2] or ""
    location, _, name = reference.partition(":")
    return location, name


def import_source(location: str, *, subject: str, error: type[ExportError]) -> ModuleType:
    """Import a script, a notebook or an installed module; raise ``error`` on ``subject`` where that fails.

    Of a script or notebook, a statement that fails is said on stderr, and loses no definition.
    """
    is_file = location.endswith(_FILES)
    if is_file and not Path(location).is_file():
        raise error(f"'{subject}': no such file: '{location}'. Check the path.")
    try:
        return import_file(Path(location)) if is_file else _import_module(location)
    except ModuleNotFoundError as problem:
        raise error(
            f"'{subject}': no module named '{problem.name}'. Install it, or run from the folder that holds it."
        ) from problem
    except (Exception, SystemExit) as problem:  # the user's module may raise anything
        raise error(
            f"'{subject}': importing '{location}' failed: {type(problem).__name__}: {problem}. Fix the module first."
        ) from problem


def _import_module(name: str) -> ModuleType:
    """Import a module that is installed, or else lies in the current folder, which is not on a command's path."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        sys.path.append(str(Path.cwd()))
    return importlib.import_module(name)


class _CallError(Exception):
    """A call in a reference failed, for the reason that is its cause; the text is that of the call."""


def _evaluate(node: ast.expr, module: ModuleType) -> Any:
    """Return the value of a name, its attributes, entries and calls with plain values.

    Raises LookupError or AttributeError where there is no such thing.
    """
    match node:
        case ast.Name():
            return getattr(module, node.id)
        case ast.Attribute():
            value = _evaluate(node.value, module)
            return value[node.attr] if isinstance(value, Mapping) and node.attr in value else getattr(value, node.attr)
        case ast.Subscript():
            # A shell takes the quotation marks of transforms["val"] away.
            key = node.slice.id if isinstance(node.slice, ast.Name) else _plain(node.slice)
            value = _evaluate(node.value, module)
            if not hasattr(value, "__getitem__"):
                raise LookupError(key)
            return value[key]
        case ast.Call():
            function = _evaluate(node.func, module)
            try:
                named = {str(keyword.arg): _plain(keyword.value) for keyword in node.keywords}
                return function(*map(_plain, node.args), **named)
            except Exception as problem:  # the user's function may raise anything
                raise _CallError(ast.unparse(node)) from problem
    raise LookupError(ast.unparse(node))


def _plain(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise LookupError(ast.unparse(node)) from None


def _no_such_name(name: str, location: str, module: ModuleType) -> str:
    """Return that a module has no ``name``, or that none was given, and what it defines."""
    problem = f"no '{name}' in '{location}'" if name else "no name"
    failures = failures_of(module)
    because = f", where {describe_failures(failures)}" if failures else ""
    guarded = guarded_names(Path(location)) if location.endswith(".py") else ()
    own = list(_own_names(module))
    remedies = [f"Write {location}:{own[0]}, or another one of these."] if own else []
    if name.partition(".")[0] in guarded or (guarded and not own):
        named = name if name in guarded else guarded[0]
        remedies = [
            f"'{named}' is defined under if __name__ == '__main__':, which an import does not run: move it above that."
        ]
    elif failures and name:
        remedies.append(_remedy_of(failures[0], location))
    elif not own:
        remedies = ["Name the file that does."]
    owner, _, attribute = name.partition(".")
    if attribute and isinstance(getattr(module, owner, None), type):
        remedies.append(f"What an instance alone has is named as '{location}:{owner}().{attribute}'.")
    found = f"expected one of {listed([repr(key) for key in own], 12)}" if own else _NOTHING
    return f"{problem}: {found}{because}. {' '.join(remedies)}"


def _remedy_of(failure: Failure, location: str) -> str:
    """Return what a source runs into when it is imported, and what to do, as a sentence."""
    error = failure.error
    if isinstance(error, ModuleNotFoundError):
        return (
            f"Importing '{location}' needs a module '{error.name}', which is not here: install it, or run from the "
            "folder that holds it."
        )
    if isinstance(error, SystemExit):
        cause = f"ends the program, as a parser of arguments does at the top of a script: exit {error.code}"
    elif isinstance(error, FileNotFoundError) and error.filename:
        cause = f"runs code that needs '{error.filename}', which is not here"
    else:
        cause = "runs code that fails here"
    return f"Importing '{location}' {cause}: put that code under if __name__ == '__main__':."


def import_file(path: Path) -> ModuleType:
    """Import a script or notebook under its stem; its folder comes first on the path, as when Python runs a script.

    One with relative imports is imported as a module of the packages that its folders are.
    """
    path = path.resolve(strict=True)
    packages, root = _packages_of(path)
    folders = list(dict.fromkeys((str(path.parent), str(root))))
    sys.path[:0] = folders
    arguments, sys.argv = sys.argv, [str(path)]
    current = Path.cwd()
    try:
        with _own_packages_aside([path.parent, root]):
            if packages:
                importlib.import_module(".".join(packages))
            return _execute(path, ".".join((*packages, path.stem)))
    finally:
        sys.argv = arguments
        os.chdir(current)
        for folder in folders:
            sys.path.remove(folder)
        # A function may import a sibling when it is called; behind all installed packages, as ours import some late.
        sys.path += [folder for folder in (*folders, str(current)) if folder not in sys.path]


def _packages_of(path: Path) -> tuple[list[str], Path]:
    """Return the packages that a script's relative imports need, outermost first, and the folder that holds them."""
    level = relative_level(path) if path.suffix == ".py" else 0
    if level:  # what is imported may import from further above
        level = max(map(relative_level, path.parent.glob("*.py")))
    packages: list[str] = []
    folder = path.parent
    while level and folder.name and (len(packages) < level or (folder / "__init__.py").is_file()):
        packages.insert(0, folder.name)
        folder = folder.parent
    return packages, folder


def _execute(path: Path, name: str) -> ModuleType:
    # Another module may own the stem: 'model.py' must not replace an installed package 'model'.
    while name in sys.modules:
        if getattr(sys.modules[name], "__file__", None) == str(path):
            return sys.modules[name]
        name += "_"
    loader = NotebookLoader(path) if path.suffix == SUFFIX else _ScriptLoader(path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _ScriptLoader(Loader):
    """Loader of the script ``path`` for Python's import system."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create_module(self, _spec: ModuleSpec) -> None:
        """Return None: an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the script's statements."""
        text = importlib.util.decode_source(self._path.read_bytes())
        run_statements([SourcePart(text=text, file=str(self._path))], self._path, module)


@contextmanager
def _own_packages_aside(folders: Sequence[Path]) -> Iterator[None]:
    """Let a user's import of a sibling that is named as a package of ours find the sibling."""
    names = {
        name
        for folder in folders
        for name in _PACKAGES
        if ((folder / f"{name}.py").is_file() or (folder / name).is_dir())
        # This project's own source may be what is run.
        and not Path(str(sys.modules[name].__file__)).is_relative_to(folder)
    }

    def take() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}

    own = take()
    try:
        yield
    finally:
        take()
        sys.modules.update(own)


def _own_names(module: ModuleType) -> Iterator[str]:
    """Yield the classes and functions that a module defines, and the callables that it binds to a name.

    An instance belongs to the module that names it, whatever module its class is of. Entries of a dictionary of
    callables are named as in the source.
    """
    for name, value in vars(module).items():
        if name.startswith("_") or name == "display":
            continue
        if isinstance(value, type) or inspect.isroutine(value):
            if value.__module__ == module.__name__:
                yield name
        elif isinstance(value, dict):
            yield from (f'{name}["{key}"]' for key, entry in value.items() if callable(entry))
        elif callable(value):
            yield name
