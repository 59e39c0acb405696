"""Files and folders that options name: whether they are there, before anything is loaded."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from exporter.errors import ExportError
from exporter.options.heads import HeadOptions
from exporter.options.rules import Option, flag_of

# Options whose paths are written.
_WRITTEN = {"out", "locate"}

# Options of inputs, whose tables are read row by row.
_OF_INPUTS = {"samples", "calibration"}

# Options whose text may name a file.
_REFERENCES = {"arch", "preprocess", "target_transform"}


def check_paths(given: Mapping[str, Any], options: Mapping[str, Option]) -> None:
    """Raise ExportError for a file or folder that a given option names and that is not there, or is neither.

    Reading a pipe or a device may never end, and files are read as a whole, except those of inputs.

    ``given`` are the values of the fields that the user set, ``options`` all fields that are options.
    """
    from runtime.inputs.decoder import MAX_FILE_BYTES  # 'export --help' does without numpy

    for name, value in given.items():
        stated = [pair for own in value.values() for pair in own.items()] if name == "parts" else [(name, value)]
        for path in () if name in _WRITTEN else (path for pair in stated for path in _paths_in(*pair)):
            flag = flag_of(name, options[name])
            if not path.exists():
                raise ExportError(f"'{path}': no such file or folder. Check the path in {flag}.")
            if not path.is_file() and not path.is_dir():
                raise ExportError(f"'{path}': a pipe or device: expected a file or folder. Copy it first, for {flag}.")
            if name not in _OF_INPUTS and path.is_file() and path.stat().st_size > MAX_FILE_BYTES:
                raise ExportError(
                    f"'{path}': too large: expected a file of at most {MAX_FILE_BYTES} bytes, got "
                    f"{path.stat().st_size}. Check the path in {flag}."
                )


def _paths_in(name: str, value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _paths_in(name, part.labels if isinstance(part, HeadOptions) else part)
    elif isinstance(value, str) and name in _REFERENCES:
        location, colon, _ = value.rpartition(":")
        if value.startswith("hf:"):
            yield Path(value.removeprefix("hf:"))
        elif colon and Path(location).suffix in {".py", ".ipynb", ".json"}:
            yield Path(location)
        elif not colon and Path(value).suffix in {".py", ".ipynb", ".json", ".skops", ".joblib", ".pkl", ".pickle"}:
            yield Path(value)
