"""Text encodings of files, streams and request bodies."""

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from runtime.errors import InputError
from runtime.inputs.decoder import read_source

# A line of a list or of JSONL: more than any text, row or sequence that a model takes.
MAX_LINE_CHARACTERS = 2**26

# Empty lines of a file beyond one for each other line: 60 MB of nothing else would be read for a minute.
_MOST_EMPTY_LINES = 1_000_000

# UTF-32 first: its mark of little endian begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LONGEST_MARK = 4

_FIX = "Save it as UTF-8."


def decode_text(data: bytes, subject: str) -> str:
    """Return text that comes in as bytes: UTF-8, with or without a byte order mark, or UTF-16 with one.

    The mark is no part of the text. Raises InputError, with ``subject`` as its name, for bytes of another encoding.
    """
    encoding = _encoding_of(data, subject)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding.startswith("utf-8") else "UTF-16"
        at = f"byte {error.object[error.start]:#04x} at position {error.start}"
        raise InputError(f"{subject}: not text: expected {name}, got {at}. {_FIX}") from None
    if _is_utf16_without_mark(data):
        check_no_null(text, subject)
    return text


def text_lines(path: Path) -> list[str]:
    """Return the lines of a file that are not blank, without the blanks around them, read as ``decode_text`` does.

    Raises InputError where it cannot be read, and for another encoding.
    """
    lines = io.StringIO(decode_text(read_source(path, f"'{path}'"), f"'{path}'"), newline=None)
    return [line.strip() for line in lines if line.strip()]


@contextmanager
def open_text(path: Path, subject: str) -> Iterator[TextIO]:
    """Yield a file as text, read as ``decode_text`` does, with the line ends that it has.

    Bytes that are not UTF-8 become surrogates, as in the names of files; ``check_unicode`` finds them.
    """
    with path.open("rb") as stream, _decoded(stream, subject, newline="") as text:
        yield text


def read_lines(stream: BinaryIO, subject: str) -> Iterator[str | InputError]:
    """Yield the lines of a stream without their ends, read as ``decode_text`` does; surrogates as in ``open_text``.

    Lines end as they do for Python's ``open``: with a line feed, a carriage return or both.

    A line that is no text, or is longer than ``MAX_LINE_CHARACTERS``, is the InputError of this line alone; after too
    many empty ones an InputError is the last.
    """
    number = empty = 0
    try:
        with _decoded(stream, subject, newline=None) as text:
            while True:
                number += 1
                try:
                    line = read_line(text, subject, number)
                except InputError as error:
                    yield error
                    continue
                if not line:
                    return
                empty += line.isspace()
                if is_mostly_empty(empty, number):
                    yield too_many_empty(f"{subject}, line {number}")
                    return
                yield line.rstrip("\r\n")
    except UnicodeError as error:  # a torn pair of bytes: UTF-16 cannot go on after it
        yield torn_text(error, f"{subject}, line {number}")


def read_line(text: TextIO, subject: str, number: int) -> str:
    """Return the next line of a text with its end, empty after the last one; ``number`` is its own, for messages.

    Raises InputError, after which the next call returns the line that follows, for a line with a null character, or
    longer than ``MAX_LINE_CHARACTERS``. Where it is both, no text follows: a sparse file has gigabytes of nulls.
    """
    line = text.readline(MAX_LINE_CHARACTERS)
    if len(line) == MAX_LINE_CHARACTERS:
        if "\0" in line and text.seekable():
            text.seek(0, io.SEEK_END)
            check_no_null(line, f"{subject}, line {number}")
        while line and not line.endswith(("\n", "\r")):
            line = text.readline(MAX_LINE_CHARACTERS)
        raise InputError(
            f"{subject}, line {number}: too long: expected fewer than {MAX_LINE_CHARACTERS} characters. Write one "
            "input per line."
        )
    if "\0" in line:
        check_no_null(line, f"{subject}, line {number}")
    return line


def is_mostly_empty(empty: int, number: int) -> bool:
    """Return whether so many of ``number`` lines are empty that the rest is not worth reading."""
    return empty > _MOST_EMPTY_LINES + number - empty


def too_many_empty(subject: str) -> InputError:
    """Return the error of a file whose lines are mostly empty."""
    return InputError(
        f"{subject}: more than {_MOST_EMPTY_LINES:,} empty lines, and few others: nothing more was read. Remove them."
    )


def torn_text(error: UnicodeError, subject: str) -> InputError:
    """Return the error of the rest of a file whose UTF-16 ends inside a character."""
    return InputError(f"{subject}: not text: expected UTF-16: {error}. {_FIX}")


def check_no_null(text: str, subject: str) -> None:
    """Raise InputError for a text with a null character, as UTF-16 without its mark has, and a list of ``-print0``."""
    if "\0" in text:
        raise InputError(
            f"{subject}: not text: a null character at position {text.index(chr(0))}: expected UTF-8, or UTF-16 with a "
            "byte order mark. Save it as UTF-8, with one input per line: list files with -print, not -print0."
        )


def check_unicode(text: str, subject: str) -> None:
    """Raise InputError where a text holds half of a character, as JSON escapes and bytes of other encodings do."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        if "\udc80" <= half <= "\udcff":  # a byte that open_text could not decode
            raise InputError(
                f"{subject}: not text: expected UTF-8, got byte {ord(half) - 0xDC00:#04x} at character {error.start}. "
                f"{_FIX}"
            ) from None
        raise InputError(
            f"{subject}: not text: expected Unicode characters, got half of one, {half!r}, at character "
            f"{error.start}. Decode it again."
        ) from None


def _is_utf16_without_mark(data: bytes) -> bool:
    """Return whether most pairs of bytes have a null in one and the same place; a text may have some of its own."""
    pairs = len(data) // 2
    return pairs > 0 and max(data[0::2].count(0), data[1::2].count(0)) > pairs / 2


def _encoding_of(start: bytes, subject: str) -> str:
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
    if encoding == "utf-32":
        raise InputError(f"{subject}: not text: expected UTF-8, or UTF-16 with a byte order mark, got UTF-32. {_FIX}")
    return encoding


@contextmanager
def _decoded(stream: BinaryIO, subject: str, *, newline: str | None) -> Iterator[TextIO]:
    """Yield a binary stream as text; the stream stays open."""
    buffered: Any = stream if hasattr(stream, "peek") else io.BufferedReader(cast("io.RawIOBase", stream))
    encoding = _encoding_of(buffered.peek(_LONGEST_MARK)[:_LONGEST_MARK], subject)
    errors = "surrogatepass" if encoding == "utf-16" else "surrogateescape"
    text = io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline=newline)
    try:
        yield text
    finally:
        text.detach()
        if buffered is not stream:
            buffered.detach()
