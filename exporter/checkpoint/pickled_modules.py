"""Whole pickled modules, loaded only with --trust: the one module that runs code of a checkpoint."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter.checkpoint.state_dicts import value_at
from exporter.errors import CheckpointError
from exporter.object_path import import_source


def load_module(path: Path, entry: str, names: Sequence[str], imports: Sequence[Path]) -> Any:
    """Return the torch.nn.Module pickled at ``entry``, on the CPU in eval mode.

    This imports ``names`` and runs them; stderr lists them first. ``imports`` are files and folders with their
    source. Raises CheckpointError when a name cannot be imported, with what to add.
    """
    import torch

    sys.stderr.write(f"'{path}': trusted: importing and running {_quoted(names)}\n")
    for source in imports:
        _add_import_path(source)
    for name in names:
        _check_importable(path, name)
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the module's own code may raise anything
        raise CheckpointError(
            f"'{path}': loading the module failed: {type(error).__name__}: {error}. Install the versions it was saved "
            "with, or save model.state_dict() there."
        ) from error
    loaded = value_at(loaded, entry)
    if not isinstance(loaded, torch.nn.Module):
        raise CheckpointError(
            f"'{path}': loading it gave no module: expected torch.nn.Module, got {type(loaded).__name__}. "
            "Save model.state_dict() instead."
        )
    return loaded.float().eval()


def _add_import_path(source: Path) -> None:
    if not source.exists():
        raise CheckpointError(f"'{source}': no such file or folder to import from. Check the path of --import.")
    if source.is_dir():
        sys.path.insert(0, str(source.resolve()))
        return
    sys.path.insert(0, str(source.resolve().parent))
    module = import_source(str(source), subject=str(source), error=CheckpointError)
    # A module saved by the script that defines it says '__main__'.
    main = sys.modules["__main__"]
    for name, value in vars(module).items():
        if isinstance(value, type) and not hasattr(main, name):
            setattr(main, name, value)


def _check_importable(path: Path, name: str) -> None:
    module, _, attribute = name.rpartition(".")
    try:
        imported: object = importlib.import_module(module)
    except Exception as error:  # the module may raise anything
        raise CheckpointError(
            f"'{path}': needs '{name}', which cannot be imported: {error}. Install its package, or add the file or "
            "folder that defines it with --import PATH."
        ) from error
    if not hasattr(imported, attribute):
        raise CheckpointError(
            f"'{path}': needs '{name}', and '{module}' has no '{attribute}'. Add the file that defines it with "
            "--import FILE.py."
        )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
