"""transformers' Auto classes for local folders, whose own code runs only where it is trusted."""

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from exporter.errors import ExportError, first_line


def load_auto(
    loader: str, folder: Path, *, trust: bool, error: type[ExportError], problem: str, fix: str, **options: Any
) -> Any:
    """Return what the class ``loader`` of transformers, such as ``AutoConfig``, reads from ``folder``, offline.

    Raises ``error``, with ``problem`` (its subject included) and ``fix`` around transformers' own words, where it
    cannot be read; and where the folder needs Python code of its own, which runs only if ``trust`` is true.
    """
    read = getattr(import_module("transformers"), loader).from_pretrained
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(folder, local_files_only=True, trust_remote_code=trust, **options)
    except Exception as fault:  # transformers raises OSError, ValueError, KeyError, and what its classes raise
        if _asks_for_trust(fault):
            raise _own_code(folder, loader, error) from None
        raise error(f"{problem}: {first_line(fault) or type(fault).__name__}. {fix}") from fault


def build_auto(
    loader: str, config: Any, folder: Path, *, trust: bool, error: type[ExportError], **arguments: Any
) -> Any:
    """Return the network that the class ``loader`` of transformers builds from the configuration of ``folder``.

    Raises ``error`` where ``trust`` is false and that needs Python code of the folder's own, or attention is to be
    computed by code from elsewhere; what building itself raises passes.
    """
    attention = str(getattr(config, "_attn_implementation", None) or "")
    if "/" in attention and not trust:
        raise error(
            f"'{folder}': its config.json has attention computed by code of another repository, '{attention}', and "
            "such code is not run. Remove 'attn_implementation' from config.json, or pass --trust to run it."
        )
    build = getattr(import_module("transformers"), loader).from_config
    try:
        return build(config, trust_remote_code=trust, **arguments)
    except ValueError as fault:
        if _asks_for_trust(fault):
            raise _own_code(folder, loader, error) from None
        raise


def _asks_for_trust(error: Exception) -> bool:
    """Return whether transformers would need ``trust_remote_code``, which its message names."""
    return "trust_remote_code" in str(error)


def _own_code(folder: Path, loader: str, error: type[ExportError]) -> ExportError:
    return error(
        f"'{folder}': needs Python code of its own for {loader}, and code of a folder is not run. Read that code, and "
        "pass --trust to run it; or pass your own FILE.py:NAME instead."
    )
