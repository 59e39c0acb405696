"""Objects in a user's source, by ``FILE.py:NAME``, ``FILE.ipynb:NAME`` or ``package.module:NAME``."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from exporter.errors import ExportError
from exporter.object_path.notebooks import SUFFIX, NotebookLoader, describe_failures, failures_of
from runtime.errors import listed

_FILES = (".py", SUFFIX)

# Ours that a user's own modules may be named as.
_PACKAGES = ("exporter", "runtime")


def is_reference(text: str) -> bool:
    """Return whether ``text`` reads ``FILE.py:NAME`` or ``package.module:NAME``, or is such a file without a name."""
    return ":" in text or text.endswith(_FILES)


def load_object(reference: str, *, error: type[ExportError]) -> object:
    """Return the object that ``reference`` names; NAME may be dotted, or ``transforms["val"]`` of a dictionary.

    This imports the user's module, and so runs it. Raises ``error`` when there is no such file, module or name, or when
    importing it fails; the message lists what the module defines where the name is wrong, or missing.
    """
    location, _, name = ("", "", reference) if reference.endswith(_FILES) else reference.rpartition(":")
    if not location:
        location, name = name, ""
    module = import_source(location, subject=reference, error=error)
    value: object = module
    for part in _parts_of(name):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
            continue
        if not part or not hasattr(value, part):
            raise error(f"'{reference}': {_no_such_name(name, location, module)}")
        value = getattr(value, part)
    return value


def import_source(location: str, *, subject: str, error: type[ExportError]) -> ModuleType:
    """Import a script, a notebook or an installed module; raise ``error`` on ``subject`` where that fails."""
    is_file = location.endswith(_FILES)
    try:
        return import_file(Path(location)) if is_file else _import_module(location)
    except FileNotFoundError as problem:
        if is_file and not Path(location).is_file():
            raise error(f"'{subject}': no such file: '{location}'. Check the path.") from None
        raise error(
            f"'{subject}': importing '{location}' runs code that needs '{problem.filename}', which is not here. Put "
            "that code under if __name__ == '__main__':."
        ) from problem
    except SystemExit as problem:
        raise error(
            f"'{subject}': importing '{location}' ends the program, as a parser of arguments does at the top of a "
            f"script: exit {problem.code}. Put that code under if __name__ == '__main__':."
        ) from problem
    except ModuleNotFoundError as problem:
        raise error(
            f"'{subject}': no module named '{problem.name}'. Install it, or run from the folder that holds it."
        ) from problem
    except Exception as problem:  # the user's module may raise anything
        raise error(
            f"'{subject}': importing '{location}' failed: {type(problem).__name__}: {problem}. Fix the module first."
        ) from problem


def _import_module(name: str) -> ModuleType:
    """Import a module that is installed, or else lies in the current folder, which is not on a command's path."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        sys.path.append(str(Path.cwd()))
    return importlib.import_module(name)


def _no_such_name(name: str, location: str, module: ModuleType) -> str:
    """Return that a module has no ``name``, or that none was given, and what it defines."""
    problem = f"no '{name}' in '{location}'" if name else "no name"
    failures = failures_of(module)
    because = f", where {describe_failures(failures)}" if failures else ""
    own = list(_own_names(module))
    if not own:
        return f"{problem}: it defines no class, function or transform{because}. Name the file that does."
    advice = f"Write {location}:{own[0]}, or another one of these"
    return f"{problem}: expected one of {listed([repr(key) for key in own], 12)}{because}. {advice}."


def import_file(path: Path) -> ModuleType:
    """Import a script or notebook under its stem; its folder comes first on the path, as when Python runs a script."""
    path = path.resolve(strict=True)
    # Another module may own the stem: 'model.py' must not replace an installed package 'model'.
    name = path.stem
    while name in sys.modules:
        if getattr(sys.modules[name], "__file__", None) == str(path):
            return sys.modules[name]
        name += "_"
    loader = NotebookLoader(path) if path.suffix == SUFFIX else None
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise ImportError(f"'{path}' is not a Python source file")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    sys.modules[name] = module
    sys.path.insert(0, folder)
    arguments, sys.argv = sys.argv, [str(path)]
    try:
        with _own_packages_aside(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.argv = arguments
        sys.path.remove(folder)
    # A function may import a sibling when it is called; behind all installed packages, as ours import some late.
    if folder not in sys.path:
        sys.path.append(folder)
    return module


@contextmanager
def _own_packages_aside(folder: Path) -> Iterator[None]:
    """Let a user's import of a sibling that is named as a package of ours find the sibling."""
    names = [name for name in _PACKAGES if (folder / f"{name}.py").is_file() or (folder / name).is_dir()]
    # This project's own source may be what is run.
    names = [name for name in names if not Path(str(sys.modules[name].__file__)).is_relative_to(folder)]

    def take() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}

    own = take()
    try:
        yield
    finally:
        take()
        sys.modules.update(own)


def _parts_of(name: str) -> list[str]:
    """Return the names of a dotted path, with ``["key"]`` as one of them."""
    return [part.strip("'\"") for part in name.replace("[", ".").replace("]", "").split(".")]


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
