"""What a command line names, to the inputs of a model: files, and what is in them, by input kind."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from runtime.decode.lines import SUFFIXES as LINE_SUFFIXES
from runtime.decode.lines import read_lines
from runtime.decode.tables import read_rows
from runtime.errors import InputError
from runtime.manifest import Manifest

NamedInput: TypeAlias = tuple[str, Any]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
ARRAY_SUFFIXES = {".npy", ".npz", ".json"}
TABLE_SUFFIXES = {".csv", ".parquet", ".jsonl", ".ndjson", ".json"}


def read_inputs(manifest: Manifest, paths: Sequence[Path]) -> Iterator[NamedInput]:
    """Yield the inputs that files, and the files in folders, hold for a model, with their names, in a fixed order.

    What is wrong with one input stands in its place as an InputError, or is found when it is decoded. Raises InputError
    for a folder without any.
    """
    kind = manifest.inputs[0].kind if len(manifest.inputs) == 1 else "tensor"
    return SOURCES[kind](paths)


def find_files(paths: Sequence[Path], suffixes: set[str]) -> list[Path]:
    """Return the files among ``paths``, and those with one of ``suffixes`` in the folders among them.

    Raises InputError for a folder without any.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes)
        if not found:
            raise InputError(
                f"'{path}': no inputs in this folder: expected files such as {', '.join(sorted(suffixes))}. "
                "Check the path."
            )
        files += found
    return files


def _images(paths: Sequence[Path]) -> Iterator[NamedInput]:
    return ((str(path), path) for path in find_files(paths, IMAGE_SUFFIXES))


def _arrays(paths: Sequence[Path]) -> Iterator[NamedInput]:
    return ((str(path), path) for path in find_files(paths, ARRAY_SUFFIXES))


def _rows(paths: Sequence[Path]) -> Iterator[NamedInput]:
    return (row for path in find_files(paths, TABLE_SUFFIXES) for row in read_rows(path))


def _lines(paths: Sequence[Path]) -> Iterator[NamedInput]:
    return (line for path in find_files(paths, LINE_SUFFIXES) for line in read_lines(path))


SOURCES: dict[str, Callable[[Sequence[Path]], Iterator[NamedInput]]] = {
    "image": _images,
    "tensor": _arrays,
    "tabular": _rows,
    "text": _lines,
    "tokens": _lines,
}
