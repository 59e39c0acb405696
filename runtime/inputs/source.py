"""Inputs in files, lists and tables."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from runtime.errors import InputError, bounded
from runtime.inputs.datatypes import from_base64
from runtime.inputs.encoding import check_unicode

# An input's name, as its row has it, and what the model takes; or the InputError of one that could not be read.
NamedInput: TypeAlias = tuple[str, Any]

# No system has longer ones; URLs are as long at most.
_MAX_PATH = 4096

# URLs that hold what they stand for, and the most characters of one that its row is named by.
_DATA = "data:"
_LONGEST_NAME = 200

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

# pyarrow's file systems by their schemes. Anything else that looks like a URL is an input like any other text.
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file")


class Remote(msgspec.Struct, frozen=True):
    """An input that is still behind its URL."""

    url: str

    @property
    def name(self) -> str:
        """The name of the input's row: the URL without options, which may hold secrets."""
        return self.url.partition("?")[0]


class SourceFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How inputs of one model are stored in folders, lists and tables.

    ``suffixes`` are the files that a folder is searched for. ``empty_lines`` says that an empty line of a list is also
    an input. ``from_line`` turns a line of a list, or an argument, into an input; ``from_row`` turns a row of a table
    into one, given the column that was asked for. Both take a name for the input. A .json file with a list of
    ``json_rows`` is a table. A .npy file with an array of ``batch_rank`` dimensions has one input per entry of the
    first. ``row_columns`` are the columns that make up an input; None where one column holds it. ``usual_columns`` are
    the names of such a column, in lower case. ``in_folder`` returns the ``from_row`` of a table in a folder, which
    its paths are relative to; None where paths are as they are.
    """

    suffixes: frozenset[str] = frozenset()
    empty_lines: bool = False
    from_line: Callable[[str, str], NamedInput]
    from_row: Callable[[dict[str, Any], str | None, str], NamedInput]
    json_rows: tuple[type, ...] = ()
    batch_rank: int | None = None
    row_columns: frozenset[str] | None = None
    usual_columns: tuple[str, ...] = ()
    in_folder: Callable[[Path], Callable[[dict[str, Any], str | None, str], NamedInput]] | None = None

    def rows_in(self, folder: Path) -> Callable[[dict[str, Any], str | None, str], NamedInput]:
        """Return what turns a row of a table in ``folder`` into an input."""
        return self.from_row if self.in_folder is None else self.in_folder(folder)


def is_url(text: str) -> bool:
    """Return whether ``text`` is a URL that can be read."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme in SCHEMES


def is_other_url(text: str) -> bool:
    """Return whether ``text`` is a URL that is not read, such as an address of the web."""
    return _URL.match(text) is not None and not is_url(text)


def other_url(text: str) -> NamedInput:
    """Return a URL that is not read as an input: the error that says what to do, under a name without its query."""
    name = printable(Remote(text).name)
    scheme = text.partition(":")[0].lower()
    is_web = scheme in {"http", "https"}
    problem = "is on the web, from where nothing is fetched" if is_web else f"URLs of '{scheme}' are not read"
    error = InputError(
        f"'{name}': {problem}: expected a file, or a URL such as s3://. Download it, such as with 'curl -O', and pass "
        "the file."
    )
    return (name, error)


def is_file(text: str) -> bool:
    """Return whether ``text`` is the path of a file."""
    # Path.is_file raises for what is no path at all, such as a long sentence.
    return os.path.isfile(text)  # noqa: PTH113


def printable(name: str) -> str:
    """Return a name that any row can hold: bytes that are not UTF-8, which names of files may have, are escaped."""
    return os.fsencode(native(name)).decode("utf-8", "backslashreplace")


def native(name: str) -> str:
    """Return a name as this process opens files by it: an encoding such as ASCII, of the locale C, lacks most letters.

    Bytes that are UTF-8 name the same file in every locale.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return os.fsdecode(name.encode("utf-8", "surrogateescape"))
    return name


def _to_unicode(text: str) -> str:
    """Return an argument in UTF-8, of which an encoding such as ASCII left the bytes as they are, as Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        with suppress(UnicodeError):
            return os.fsencode(text).decode()
    return text


def beside(named: NamedInput, folder: Path | None) -> NamedInput:
    """Return an input of a list or table in ``folder``; a path that leads nowhere from here may lead there from it."""
    name, source = named
    is_relative = folder is not None and isinstance(source, Path) and not source.is_absolute()
    # os.path, unlike Path, takes any text.
    if folder is None or not is_relative or os.path.exists(source) or not os.path.exists(folder / source):  # noqa: PTH110
        return named
    return (name, folder / source)


def path_from_line(line: str, subject: str) -> NamedInput:
    """Return the path or URL that a line is, or the bytes that it is as base64.

    Base64 is in a URL that begins with ``data:``, or longer than any path; any other such line is an InputError.
    """
    if len(line) > _MAX_PATH or _is_data_url(line):
        return _from_base64(line, subject)
    if is_url(line):
        remote = Remote(line)
        return (printable(remote.name), remote)
    if is_other_url(line):
        return other_url(line)
    return (printable(line), Path(native(line)))


def _is_data_url(text: str) -> bool:
    return text[: len(_DATA)].lower() == _DATA


def _from_base64(line: str, subject: str) -> NamedInput:
    name = bounded(subject, _LONGEST_NAME)
    try:
        return (name, from_base64(line, f"'{name}'"))
    except InputError as error:
        if _is_data_url(line):
            return (name, error)
    problem = (
        f"'{name}': not a path: expected at most {_MAX_PATH} characters, or base64, got {len(line)}. Correct the line."
    )
    return (name, InputError(problem))


def value_from_line(line: str, subject: str) -> NamedInput:
    """Return the path or URL that a line is, which stands for its contents; any other line is the input itself."""
    if is_url(line) or is_file(line):
        return path_from_line(line, subject)
    text = _to_unicode(line)
    try:
        check_unicode(text, f"'{subject}'")
    except InputError as error:
        return (subject, error)
    return (subject, text.encode())


def whole_row(row: dict[str, Any], column: str | None, subject: str) -> NamedInput:
    """Return a row itself, or its one column that was asked for."""
    return (subject, row if column is None else row[choose_column(row, column, subject, ())])


def choose_column(row: dict[str, Any], column: str | None, subject: str, usual_names: tuple[str, ...]) -> str:
    """Return the column to read: the one that was asked for, the only one, or the one with a usual name.

    Raises InputError where there is no such column, or more than one.
    """
    if column is not None:
        if column not in row:
            raise InputError(
                f"'{subject}': no column '{column}': expected one of {', '.join(map(repr, row))}. Name one of them."
            )
        return column
    if len(row) == 1:
        return next(iter(row))
    candidates = [name for name in row if name.lower() in usual_names]
    if len(candidates) != 1:
        raise InputError(
            f"'{subject}': which column? expected --column with one of {', '.join(map(repr, row))}. Name it."
        )
    return candidates[0]
