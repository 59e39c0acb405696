"""Inputs of a job: files, folders, globs, lists, tables, URLs and stdin, in a fixed order."""

import glob
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.decoder import input_border, read_source, to_input_error
from runtime.inputs.encoding import decode_text, read_lines
from runtime.inputs.folders import FIRST_LINE, FOLDER_OF_GLOB, LeftOut, match_pattern, suffix_of, walk_folder
from runtime.inputs.json_size import check_json
from runtime.inputs.registry import source_format_of
from runtime.inputs.source import (
    NamedInput,
    Remote,
    SourceFormat,
    beside,
    is_file,
    is_other_url,
    is_url,
    other_url,
    printable,
)
from runtime.inputs.tabular.tables import READERS, WITH_HEADER, Row, read_json
from runtime.jobs.urls import local_copy, walk_url
from runtime.model import Model

STDIN = "-"

# Arguments with these suffixes that are not files are misspelled paths, and not texts.
_SUFFIXES = frozenset({*READERS, ".txt", ".json", ".npy", ".npz"})

# Files that hold inputs and are not read, with what is wrong and what to do.
_PACKED = "an archive, or compressed: expected files as they are. Unpack it, and name the folder or the file in it."
_OTHER_TABLE = f"a table of another program: expected {', '.join(READERS)}. Save it as one of these."
_FOREIGN = {
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"), _PACKED),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".feather", ".arrow", ".orc", ".avro", ".h5"), _OTHER_TABLE),
    **dict.fromkeys((".pkl", ".pickle", ".db", ".sqlite"), _OTHER_TABLE),
}

# How files begin that people send to stdin: JPEG, PNG, GIF, WebP, TIFF, numpy's, Parquet, and what is packed.
_MAGIC = (
    *(b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*"),
    *(b"\x93NUMPY", b"PAR1", b"PK\x03\x04", b"\x1f\x8b"),
)
_LONGEST_MAGIC = max(map(len, _MAGIC))

_NO_ROWS = "no rows in this table, whose first line names its columns"

# Files at a URL that are fetched whole, to be read: tables and lists.
_LIST = ".txt"
_READ_WHOLE = frozenset({*READERS, _LIST})


class _Argument:
    """One argument of a job, and what it is on the disk, looked up at most once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.name = printable(text)
        self.path = Path(text)
        self.suffix = self.path.suffix.lower()

    @cached_property
    def is_file(self) -> bool:
        return is_file(self.text)


class _Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How the arguments of a job are read."""

    source_format: SourceFormat
    column: str | None
    stdin: BinaryIO | None
    left_out: LeftOut


def read_inputs(model: Model, *paths: str | Path, column: str | None = None) -> Iterator[NamedInput]:
    """Yield the (name, input) pairs of files, folders and tables, as ``truecopy predict`` reads them.

    They are what ``Model.predict_each`` takes: tables are streamed, and ``column`` is the one of them that holds the
    inputs, where inputs are not rows. A warning at the end counts what was left out. Raises InputError for a folder or
    table without inputs.
    """
    left_out = LeftOut()
    kind = source_format_of(model.manifest.inputs)
    yield from read_sources([str(path) for path in paths], kind, column=column, left_out=left_out)
    if left_out:
        warnings.warn(str(left_out), stacklevel=2)


def read_sources(
    arguments: Sequence[str],
    source_format: SourceFormat,
    *,
    column: str | None = None,
    stdin: BinaryIO | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[NamedInput]:
    """Yield the inputs that ``arguments`` name, in their order; folders and globs in the order of their names.

    An argument is a file, a folder (searched at any depth), a glob, ``-`` (lines on ``stdin``, by default the
    process's), a ``.txt`` list of lines, or a table (``tables.READERS``, or ``.json`` with a list), of which ``column``
    is read; or the URL of a file, folder, list or table. Of a folder, the names of one directory at a time are in
    memory. ``left_out`` counts what is there and not read. Raises InputError for a folder, glob or table without
    inputs; a list or table that does not exist is an InputError instead of its inputs.
    """
    left_out = LeftOut() if left_out is None else left_out
    if column is not None and not any(map(_may_have_columns, arguments)):
        raise InputError(
            f"--column '{column[:100]}': no table among the inputs: expected {', '.join(sorted(READERS))}. Omit the "
            "option, or name a table."
        )
    reading = _Reading(source_format=source_format, column=column, stdin=stdin, left_out=left_out)
    for text in arguments:
        argument = _Argument(text)
        by_form = (read(argument, reading) for read in _FORMS)
        yield from next(named for named in by_form if named is not None)


def _may_have_columns(text: str) -> bool:
    """Return whether an argument may be a table, or hold some: anything but the file of another form."""
    argument = _Argument(text)
    return not argument.is_file or argument.suffix in {*READERS, _LIST, ".json"}


def count_inputs(
    arguments: Sequence[str],
    source_format: SourceFormat,
    *,
    column: str | None = None,
    left_out: LeftOut | None = None,
) -> int | None:
    """Return how many inputs there are; None where only reading them would tell: stdin, tables and lists at a URL.

    ``left_out`` counts what is there and not read, unless it is None that is returned.
    """
    if STDIN in arguments or any(is_url(text) and _suffix_of(text) in _READ_WHOLE for text in arguments):
        return None
    return sum(1 for _ in read_sources(arguments, source_format, column=column, left_out=left_out))


def _read_remote(argument: _Argument, reading: _Reading) -> Iterator[NamedInput] | None:
    return _read_url(argument.text, reading) if is_url(argument.text) else None


def _read_stdin(argument: _Argument, reading: _Reading) -> Iterator[NamedInput] | None:
    if argument.text != STDIN:
        return None
    stream = reading.stdin or (sys.stdin.buffer if sys.stdin is not None else None)
    if stream is None:  # as after '<&-'
        raise InputError(
            "stdin: closed: expected one input per line on it. Pipe them in, or name files instead of '-'."
        )
    if not isinstance(stream, BufferedReader) or not stream.peek(_LONGEST_MAGIC).startswith(_MAGIC):
        return _read_lines(stream, reading.source_format, "stdin")
    raise InputError(
        "stdin: a file itself: expected a list, with one input per line. Save it, and name the file instead of '-'."
    )


def _read_folder(argument: _Argument, reading: _Reading) -> Iterator[NamedInput] | None:
    if argument.is_file or not os.path.isdir(argument.text):  # noqa: PTH112 - as in is_file
        return None
    named = _walk(argument.text, reading)
    return _non_empty(named, f"'{argument.text}': no {_files_of(reading.source_format)} in this folder")


def _read_table(argument: _Argument, reading: _Reading) -> Iterator[NamedInput] | None:
    if not argument.is_file or not (argument.suffix in READERS or _is_json_table(argument.path, reading.source_format)):
        return None
    named = _read_rows(argument.path, argument.text, reading, argument.path.parent)
    return _non_empty(named, f"'{argument.text}': {_NO_ROWS}")


def _read_batch(argument: _Argument, reading: _Reading) -> Iterator[NamedInput] | None:
    batch = _open_batch(argument.path, reading.source_format) if argument.is_file else None
    if batch is None:
        return None
    return ((f"{argument.name}#{number}", array) for number, array in enumerate(batch, 1))


def _read_list(argument: _Argument, reading: _Reading) -> Iterator[NamedInput] | None:
    if not argument.is_file or argument.suffix != _LIST:
        return None
    named = _read_list_file(argument.path, reading.source_format, argument.text, argument.path.parent)
    return _non_empty(named, f"'{argument.text}': no lines in this list")


def _reject_foreign(argument: _Argument, reading: _Reading) -> Iterator[NamedInput] | None:
    if not argument.is_file or argument.suffix in reading.source_format.suffixes or argument.suffix not in _FOREIGN:
        return None
    return iter([(argument.name, InputError(f"'{argument.name}': {_FOREIGN[argument.suffix]}"))])


def _read_glob(argument: _Argument, reading: _Reading) -> Iterator[NamedInput] | None:
    pattern, source_format = argument.text, reading.source_format
    is_pattern = glob.has_magic(pattern) and not is_other_url(pattern)
    if not source_format.suffixes or not is_pattern or argument.path.exists():
        return None
    matches = sorted({*match_pattern(pattern, reading.left_out)})
    names = [name for name in matches if not Path(name).is_dir()]
    for folder in () if "**" in pattern else sorted({*matches}.difference(names)):
        reading.left_out.add(FOLDER_OF_GLOB, folder)
    return _non_empty((source_format.from_line(name, name) for name in names), f"'{pattern}': nothing matches")


def _reject_missing_file(argument: _Argument, _reading: _Reading) -> Iterator[NamedInput] | None:
    # Anything else may be an input itself, such as a sentence.
    if argument.is_file or argument.suffix not in _SUFFIXES or " " in argument.text:
        return None
    if is_other_url(argument.text):
        return iter([other_url(argument.text)])
    return iter([(argument.name, InputError(f"'{argument.name}': no such file. Check the path."))])


def _read_one(argument: _Argument, reading: _Reading) -> Iterator[NamedInput]:
    return iter([reading.source_format.from_line(argument.text, argument.name)])


# The forms of an argument, in order of precedence; each returns None where the argument is of another form.
_FORMS: tuple[Callable[[_Argument, _Reading], Iterator[NamedInput] | None], ...] = (
    _read_remote,
    _read_stdin,
    _read_folder,
    _read_table,
    _read_batch,
    _read_list,
    _reject_foreign,
    _read_glob,
    _reject_missing_file,
    _read_one,
)


def _is_json_table(path: Path, source_format: SourceFormat) -> bool:
    """Return whether a JSON file has a list of what rows of this kind may be."""
    if path.suffix.lower() != ".json" or not source_format.json_rows:
        return False
    try:
        text = decode_text(read_source(path, str(path)), str(path))
        check_json(text, str(path))
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, InputError):
        return False  # its reader says what is wrong with it
    return isinstance(value, list) and bool(value) and isinstance(value[0], source_format.json_rows)


def _open_batch(path: Path, source_format: SourceFormat) -> NDArray[Any] | None:
    """Return the inputs that a .npy file holds together, still on the disk; None where it holds one, or is damaged."""
    if path.suffix.lower() != ".npy" or source_format.batch_rank is None:
        return None
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return None
    # One without bytes may have any number of entries.
    return array if array.ndim == source_format.batch_rank and len(array) != 1 and array.nbytes else None


def _walk(folder: str, reading: _Reading) -> Iterator[NamedInput]:
    for found in walk_folder(folder, reading.source_format.suffixes, reading.left_out):
        if isinstance(found, str):
            yield reading.source_format.from_line(found, found)
        else:
            yield (printable(found[0]), found[1])


def _read_lines(
    stream: BinaryIO, source_format: SourceFormat, name: str, folder: Path | None = None
) -> Iterator[NamedInput]:
    for number, line in enumerate(read_lines(stream, f"'{printable(name)}'"), 1):
        subject = f"{printable(name)}#{number}"
        if isinstance(line, InputError):
            yield (subject, line)
        elif line or source_format.empty_lines:
            yield beside(source_format.from_line(line, subject), folder)


def _read_list_file(
    path: Path, source_format: SourceFormat, name: str, folder: Path | None = None
) -> Iterator[NamedInput]:
    with path.open("rb") as stream:
        yield from _read_lines(stream, source_format, name, folder)


def _read_url(url: str, reading: _Reading) -> Iterator[NamedInput]:
    """Yield the inputs behind a URL; a table or a list is fetched whole, to a temporary file."""
    name, source_format = Remote(url).name, reading.source_format
    suffix = _suffix_of(url)
    if suffix in READERS:
        with local_copy(url) as path:
            yield from _non_empty(_read_rows(path, name, reading), f"'{name}': {_NO_ROWS}")
        return
    if suffix == _LIST:
        with local_copy(url) as path:
            yield from _non_empty(_read_list_file(path, source_format, name), f"'{name}': no lines in this list")
        return

    def is_input(file: str) -> bool:
        if suffix_of(file) in source_format.suffixes:
            return True
        reading.left_out.add_file(file)
        return False

    files = None if suffix in source_format.suffixes else walk_url(url, is_input)
    if files is None:
        yield source_format.from_line(url, printable(name))
        return
    named = (source_format.from_line(remote.url, printable(remote.name)) for remote in files)
    yield from _non_empty(named, f"'{name}': no {_files_of(source_format)} in this folder")


def _suffix_of(url: str) -> str:
    return Path(Remote(url).name).suffix.lower()


def _read_rows(path: Path, name: str, reading: _Reading, folder: Path | None = None) -> Iterator[NamedInput]:
    """Yield the inputs of a table, which is in ``folder`` unless it was fetched."""
    from_row = reading.source_format.from_row if folder is None else reading.source_format.rows_in(folder)
    for number, row in enumerate(_rows_of_table(path, name), 1):
        subject = f"{printable(name)}#{number}"
        if isinstance(row, InputError):
            yield (subject, row)
            continue
        if number == 1 and path.suffix.lower() in WITH_HEADER:
            _check_header(row, name, reading)
        try:
            with input_border(f"'{subject}'"):
                named = beside(from_row(row, reading.column, subject), folder)
        except InputError as error:
            if number == 1:  # the column is wrong, and so all rows would be
                raise
            named = (subject, error)
        yield named


def _rows_of_table(path: Path, name: str) -> Iterator[Row]:
    """Yield the rows of a table; where its reader fails behind the first row, the rest of the table is one error."""
    rows = READERS.get(path.suffix.lower(), read_json)(path)
    is_first = True
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            failure = to_input_error(
                error, f"'{printable(name)}'" if is_first else f"'{printable(name)}', from here on"
            )
            if is_first:
                raise failure from error
            row = failure
            rows = iter(())
        if row is None:
            return
        yield row
        is_first = False


def _check_header(row: dict[str, Any], name: str, reading: _Reading) -> None:
    """Raise InputError where a header is no header but an input; count a header that might be one."""
    source_format = reading.source_format
    file = next((cell for cell in row if suffix_of(cell) in source_format.suffixes), None)
    if file is not None:
        raise InputError(
            f"'{name}': no header: expected the names of columns in its first line, got '{file:.200}'. Add a first "
            "line such as 'path', or save the list as .txt."
        )
    is_guess = reading.column is None and len(row) == 1 and source_format.row_columns is None
    if is_guess and next(iter(row)).lower() not in source_format.usual_columns:
        reading.left_out.add(FIRST_LINE, f"{name}: {next(iter(row))}")


def _non_empty(named: Iterator[NamedInput], problem: str) -> Iterator[NamedInput]:
    empty = True
    for entry in named:
        empty = False
        yield entry
    if empty:
        raise InputError(f"{problem}: expected at least one input, got none. Check the path.")


def _files_of(source_format: SourceFormat) -> str:
    return f"files such as {', '.join(sorted(source_format.suffixes)[:3])}" if source_format.suffixes else "files"
