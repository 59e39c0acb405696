"""Objects in a user's source, by ``FILE.py:NAME`` or ``package.module:NAME``."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from exporter.errors import ExportError


def is_reference(text: str) -> bool:
    """Return whether ``text`` reads ``FILE.py:NAME`` or ``package.module:NAME``."""
    return ":" in text


def load_object(reference: str, *, error: type[ExportError]) -> object:
    """Return the object that ``reference`` names; NAME may be dotted, or ``transforms["val"]`` of a dictionary.

    This imports the user's module, and so runs it. Raises ``error`` when there is no such file, module or name, or when
    importing it fails.
    """
    location, _, name = reference.rpartition(":")
    try:
        module = import_file(Path(location)) if location.endswith(".py") else importlib.import_module(location)
    except FileNotFoundError as problem:
        if location.endswith(".py") and not Path(location).is_file():
            raise error(f"'{reference}': no such file: '{location}'. Check the path.") from None
        raise error(
            f"'{reference}': importing '{location}' runs code that needs '{problem.filename}', which is not here. Put "
            "that code under if __name__ == '__main__':."
        ) from problem
    except SystemExit as problem:
        raise error(
            f"'{reference}': importing '{location}' ends the program, as a parser of arguments does at the top of a "
            f"script: exit {problem.code}. Put that code under if __name__ == '__main__':."
        ) from problem
    except ModuleNotFoundError as problem:
        raise error(
            f"'{reference}': no module named '{problem.name}'. Install it, or run from the folder that holds it."
        ) from problem
    except Exception as problem:  # the user's module may raise anything
        raise error(
            f"'{reference}': importing '{location}' failed: {type(problem).__name__}: {problem}. Fix the module first."
        ) from problem
    value: object = module
    for part in _parts_of(name):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
            continue
        if not hasattr(value, part):
            known = ", ".join(f"'{key}'" for key in _own_names(module)) or "none"
            raise error(f"'{reference}': no '{name}' in '{location}': expected one of its names: {known}. Name one.")
        value = getattr(value, part)
    return value


def import_file(path: Path) -> ModuleType:
    """Import a file under its stem; its folder comes first on the path, as when Python runs it as a script."""
    path = path.resolve(strict=True)
    # Another module may own the stem: 'model.py' must not replace an installed package 'model'.
    name = path.stem
    while name in sys.modules:
        if getattr(sys.modules[name], "__file__", None) == str(path):
            return sys.modules[name]
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"'{path}' is not a Python source file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    arguments, sys.argv = sys.argv, [str(path)]
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.argv = arguments
        sys.path.remove(str(path.parent))
    return module


def _parts_of(name: str) -> list[str]:
    """Return the names of a dotted path, with ``["key"]`` as one of them."""
    return [part.strip("'\"") for part in name.replace("[", ".").replace("]", "").split(".")]


def _own_names(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", module.__name__) == module.__name__
    ][:10]
