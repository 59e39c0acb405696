"""What a job is given, as named inputs in a fixed order: files, folders, globs, lists, tables, and stdin."""

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.tabular.tables import READERS, read_json
from runtime.jobs.urls import Remote, is_url, local_copy, walk_url
from runtime.manifest import Manifest, TensorInput, TextInput
from runtime.model import Model

# An input's name, as its row has it, and what the model takes; or the reason why it could not be read.
Named: TypeAlias = tuple[str, Any]

STDIN = "-"

# Arguments that end so and are no files are misspelt paths, and no texts.
_SUFFIXES = frozenset({*READERS, ".txt", ".json", ".npy", ".npz"})


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """How inputs of one kind stand in folders, lists and tables.

    ``suffixes`` are the files looked for in a folder; ``empty_lines`` says that an empty line of a list is an input,
    too; ``from_line`` turns a line of a list, or an argument, into an input, and ``from_row`` a row of a table, given
    the column that was asked for. Both are given a name for it. A .json file with a list of ``json_rows`` is a table,
    and a .npy file with an array of ``batch_rank`` dimensions has an input for each of the first.
    """

    suffixes: frozenset[str]
    empty_lines: bool = False
    from_line: Callable[[str, str], Named]
    from_row: Callable[[dict[str, Any], str | None, str], Named]
    json_rows: tuple[type, ...] = ()
    batch_rank: int | None = None


def _path_from_line(line: str, _subject: str) -> Named:
    if is_url(line):
        remote = Remote(line)
        return (_printable(remote.name), remote)
    return (_printable(line), Path(line))


def _image_from_row(row: dict[str, Any], column: str | None, subject: str) -> Named:
    value = row[_choose_column(row, column, subject, ("path", "image", "file", "filename", "input"))]
    # Data sets keep encoded images in a struct of their bytes and the path that they had.
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return (str(value.get("path") or subject), value["bytes"])
    if (isinstance(value, bytes) and value) or isinstance(value, np.ndarray):
        return (subject, value)
    if not isinstance(value, str) or not value:
        return (subject, InputError(f"'{subject}': no image: expected a path or bytes, got {value!r}. Fill the cell."))
    return _path_from_line(value, subject)


def _path_from_row(row: dict[str, Any], column: str | None, subject: str) -> Named:
    value = row[_choose_column(row, column, subject, ("path", "file", "filename", "input"))]
    if not isinstance(value, str) or not value:
        return (subject, InputError(f"'{subject}': no path: expected text, got {value!r}. Fill the cell."))
    return _path_from_line(value, subject)


def _value_from_line(line: str, subject: str) -> Named:
    # A file's path, or a URL, stands for its contents; anything else is the input itself.
    return _path_from_line(line, subject) if is_url(line) or _is_file(line) else (subject, line.encode())


def _row_itself(row: dict[str, Any], column: str | None, subject: str) -> Named:
    if column is not None:
        return (subject, row[_choose_column(row, column, subject, ())])
    return (subject, row)


def _text_from_line(line: str, subject: str) -> Named:
    return (subject, line)


def _text_from_row(row: dict[str, Any], column: str | None, subject: str) -> Named:
    if column is not None and "," in column and column not in row:  # the two columns of a pair
        return (subject, [row[_choose_column(row, one, subject, ())] for one in column.split(",")])
    return (subject, row[_choose_column(row, column, subject, ("text", "sentence", "input"))])


def _pair_from_row(row: dict[str, Any], column: str | None, subject: str) -> Named:
    if column is None and len(row) == 2:
        return (subject, list(row.values()))
    if column is None and len(row) != 1:
        raise InputError(
            f"'{subject}': which columns? expected --column FIRST,SECOND with two of {', '.join(map(repr, row))}. Name "
            "them."
        )
    return _text_from_row(row, column, subject)


def _tokens_from_row(row: dict[str, Any], column: str | None, subject: str) -> Named:
    return (subject, row[_choose_column(row, column, subject, ("tokens", "input_ids", "ids", "input"))])


_NO_FILES: frozenset[str] = frozenset()

# By the tag of the manifest's input: what a job of each kind reads. Rows are whole tables' rows.
KINDS: dict[str, Kind] = {
    "image": Kind(
        suffixes=frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}),
        from_line=_path_from_line,
        from_row=_image_from_row,
    ),
    "tensor": Kind(suffixes=frozenset({".npy"}), from_line=_path_from_line, from_row=_path_from_row),
    "tabular": Kind(suffixes=frozenset({".json"}), from_line=_value_from_line, from_row=_row_itself, json_rows=(dict,)),
    "text": Kind(
        suffixes=_NO_FILES,
        empty_lines=True,
        from_line=_text_from_line,
        from_row=_text_from_row,
        json_rows=(dict, list, str),
    ),
    "tokens": Kind(suffixes=_NO_FILES, from_line=_value_from_line, from_row=_tokens_from_row, json_rows=(dict, list)),
}

# Several inputs at once: a row a set, one column an input, or an archive of arrays.
SEVERAL = Kind(suffixes=frozenset({".npz"}), from_line=_value_from_line, from_row=_row_itself, json_rows=(dict,))


def input_kind(manifest: Manifest) -> Kind:
    """Return how the inputs of this model stand in folders, lists and tables."""
    if len(manifest.inputs) > 1:
        return SEVERAL
    (spec,) = manifest.inputs
    kind = KINDS[spec.kind]
    if isinstance(spec, TensorInput):
        return msgspec.structs.replace(kind, batch_rank=len(spec.shape))
    if isinstance(spec, TextInput) and spec.pairs:
        return msgspec.structs.replace(kind, from_row=_pair_from_row)
    return kind


def read_inputs(model: Model, *paths: str | Path, column: str | None = None) -> Iterator[Named]:
    """Yield the (name, input) pairs of files, folders and tables, as ``truecopy predict`` reads them.

    They are what ``Model.predict_each`` takes: tables are streamed, and ``column`` is the one of them that holds the
    inputs, where inputs are not rows. Raises InputError for a folder or table without inputs.
    """
    return read_sources([str(path) for path in paths], input_kind(model.manifest), column=column)


def read_sources(
    arguments: Sequence[str], kind: Kind, *, column: str | None = None, stdin: BinaryIO | None = None
) -> Iterator[Named]:
    """Yield the inputs that ``arguments`` name, in their order; folders and globs in the order of their names.

    An argument is a file, a folder (searched at any depth), a glob, ``-`` (lines on ``stdin``, by default the
    process's), a ``.txt`` list of lines, or a table (``tables.READERS``, or ``.json`` with a list), of which ``column``
    is read; or the URL of a file, folder, list or table. Of a folder, the names of one directory at a time are in
    memory. Raises InputError for a folder, glob or table without inputs; a list or table that is not there is an
    InputError in the place of its inputs.
    """
    for argument in arguments:
        if is_url(argument):
            yield from _read_url(argument, kind, column)
            continue
        path = Path(argument)
        is_file = _is_file(argument)
        if argument == STDIN:
            yield from _read_lines(stdin or sys.stdin.buffer, kind, "stdin")
        elif not is_file and os.path.isdir(argument):  # noqa: PTH112 - as in _is_file
            yield from _non_empty(_walk(argument, kind), f"'{argument}': no {_kinds(kind)} in this folder")
        elif is_file and (path.suffix.lower() in READERS or _is_json_table(path, kind)):
            yield from _non_empty(_read_rows(path, argument, kind, column), f"'{argument}': no rows in this table")
        elif is_file and (batch := _open_batch(path, kind)) is not None:
            yield from ((f"{_printable(argument)}#{number}", one) for number, one in enumerate(batch, 1))
        elif is_file and path.suffix.lower() == ".txt":
            with path.open("rb") as stream:
                yield from _non_empty(_read_lines(stream, kind, argument), f"'{argument}': no lines in this list")
        elif kind.suffixes and glob.has_magic(argument) and not path.exists():
            names = glob.iglob(argument, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
            found = sorted(name for name in names if not Path(name).is_dir())
            yield from _non_empty((kind.from_line(name, name) for name in found), f"'{argument}': nothing matches")
        elif not is_file and path.suffix.lower() in _SUFFIXES and " " not in argument:
            name = _printable(argument)  # anything else may be an input itself, such as a sentence
            yield (name, InputError(f"'{name}': no such file. Check the path."))
        else:
            yield kind.from_line(argument, _printable(argument))


def count_inputs(arguments: Sequence[str], kind: Kind, *, column: str | None = None) -> int | None:
    """Return how many inputs there are; None where only reading them would tell, as on stdin."""
    if STDIN in arguments:
        return None
    return sum(1 for _ in read_sources(arguments, kind, column=column))


def _is_json_table(path: Path, kind: Kind) -> bool:
    """Return whether a JSON file has a list of what rows of this kind may be."""
    if path.suffix.lower() != ".json" or not kind.json_rows:
        return False
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False  # its reader says what is wrong with it
    return isinstance(found, list) and bool(found) and isinstance(found[0], kind.json_rows)


def _open_batch(path: Path, kind: Kind) -> NDArray[Any] | None:
    """Return the inputs that a .npy file holds together, still on the disk; None where it holds one, or is damaged."""
    if path.suffix.lower() != ".npy" or kind.batch_rank is None:
        return None
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return None
    return found if found.ndim == kind.batch_rank and len(found) != 1 else None


def _is_file(text: str) -> bool:
    # Path.is_file raises for what is no path at all, such as a long sentence.
    return os.path.isfile(text)  # noqa: PTH113


def _walk(folder: str, kind: Kind) -> Iterator[Named]:
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        path = f"{folder.rstrip('/')}/{name}"
        if is_folder:
            yield from _walk(path, kind)
        elif _has_suffix(name, kind):
            yield kind.from_line(path, path)


def _read_lines(stream: Any, kind: Kind, name: str) -> Iterator[Named]:
    for number, line in enumerate(stream, 1):
        text = os.fsdecode(line).rstrip("\r\n")
        if text or kind.empty_lines:
            yield kind.from_line(text, f"{_printable(name)}#{number}")


def _read_url(url: str, kind: Kind, column: str | None) -> Iterator[Named]:
    """Yield the inputs behind a URL; a table or a list is fetched whole, to a temporary file."""
    name = Remote(url).name
    suffix = Path(name).suffix.lower()
    if suffix in READERS:
        with local_copy(url) as path:
            yield from _non_empty(_read_rows(path, name, kind, column), f"'{name}': no rows in this table")
    elif suffix == ".txt":
        with local_copy(url) as path, path.open("rb") as stream:
            yield from _non_empty(_read_lines(stream, kind, name), f"'{name}': no lines in this list")
    elif suffix not in kind.suffixes and (found := walk_url(url, lambda file: _has_suffix(file, kind))) is not None:
        named = (kind.from_line(remote.url, _printable(remote.name)) for remote in found)
        yield from _non_empty(named, f"'{name}': no {_kinds(kind)} in this folder")
    else:
        yield kind.from_line(url, _printable(name))


def _has_suffix(name: str, kind: Kind) -> bool:
    return os.path.splitext(name)[1].lower() in kind.suffixes  # noqa: PTH122 - a Path a file costs more


def _read_rows(path: Path, name: str, kind: Kind, column: str | None) -> Iterator[Named]:
    reader = READERS.get(path.suffix.lower(), read_json)
    for number, row in enumerate(reader(path), 1):
        subject = f"{_printable(name)}#{number}"
        if isinstance(row, InputError):
            yield (subject, row)
            continue
        try:
            yield kind.from_row(row, column, subject)
        except InputError as error:
            if number == 1:  # the column is wrong, and so all rows would be
                raise
            yield (subject, error)


def _choose_column(row: dict[str, Any], column: str | None, subject: str, usual: tuple[str, ...]) -> str:
    """Return the column to read: the one that was asked for, the only one, or the one with a usual name."""
    if column is not None:
        if column not in row:
            raise InputError(
                f"'{subject}': no column '{column}': expected one of {', '.join(map(repr, row))}. Name one of them."
            )
        return column
    if len(row) == 1:
        return next(iter(row))
    named = [name for name in row if name.lower() in usual]
    if len(named) != 1:
        raise InputError(
            f"'{subject}': which column? expected --column with one of {', '.join(map(repr, row))}. Name it."
        )
    return named[0]


def _non_empty(inputs: Iterator[Named], complaint: str) -> Iterator[Named]:
    empty = True
    for named in inputs:
        empty = False
        yield named
    if empty:
        raise InputError(f"{complaint}: expected at least one input, got none. Check the path.")


def _kinds(kind: Kind) -> str:
    return f"files such as {', '.join(sorted(kind.suffixes)[:3])}" if kind.suffixes else "files"


def _printable(name: str) -> str:
    """Return a name that any row can hold: bytes that are not UTF-8, which names of files may have, are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
