"""JSON texts: what their values take in Python, known before they are made, and why a text is none."""

import re

from runtime.errors import InputError

# An empty list with its place in another list, an object of one member, a number, and a text of one character; the
# names in objects count as texts.
_LIST_BYTES = 88
_OBJECT_BYTES = 240
_NUMBER_BYTES = 40
_TEXT_BYTES = 64

# One character beyond 16 bits makes every other one of a text take four bytes; they come as UTF-8, or escaped.
_WIDE_BYTES = 3
_NARROW = bytes(range(0xF0))

# Python reads a whole number of many digits in quadratic time; no float says anything with more than 17.
_MANY_DIGITS = b"0" * 100
_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_MOST_LONG_NUMBERS = 100

# What the values of one file, or of one line of a table, may take: 15 million numbers, a million rows of a table.
MAX_VALUES_BYTES = 3 * 2**28

# Where msgspec says that a text is no JSON, and what Python and JavaScript write instead of it.
_PLACE = re.compile(r"\(byte (\d+)\)")
_OTHER_WORDS = {"NaN": "null", "Infinity": "null", "None": "null", "True": "true", "False": "false", "'": '"'}

# The parser takes the first escape of two, alone, for the end of the text.
_HALF_CHARACTER = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")

# Counting holds Python's lock: the event loop has its turn between pieces.
_PIECE_BYTES = 1024 * 1024


def json_bytes(text: bytes, subject: str = "body") -> int:
    """Return at least how many bytes the values of a JSON text take besides its characters, by its punctuation alone.

    Punctuation inside texts counts as well: prose has little of it, and the base64 of files none. Raises InputError for
    many numbers of hundreds of digits.
    """
    size_bytes = unquoted_bytes = long_numbers = 0
    wide = False
    for start in range(0, len(text), _PIECE_BYTES):
        piece = text[start : start + _PIECE_BYTES]
        quotes = piece.count(b'"')
        size_bytes += _piece_bytes(piece, quotes)
        if not quotes:
            unquoted_bytes += len(piece)
        wide = wide or _has_wide(piece)
        long_numbers += piece.translate(_TO_ZERO).count(_MANY_DIGITS)
    if long_numbers > _MOST_LONG_NUMBERS:
        raise InputError(
            f"{subject}: numbers of too many digits: expected at most {len(_MANY_DIGITS) - 1}, got more in "
            f"{long_numbers} places. Send floating-point numbers."
        )
    # Only a long text covers a whole piece; short ones are widened one by one, those with such a character alone.
    return size_bytes + _WIDE_BYTES * unquoted_bytes * wide


def check_json(text: bytes | str, subject: str) -> None:
    """Raise InputError, with ``subject`` as its name, for JSON whose values would take more than ``MAX_VALUES_BYTES``.

    Files are checked before they are read as JSON; the bodies of requests have a limit of their own.
    """
    if len(text) < _PIECE_BYTES:  # a hundred times as much at most
        return
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    size_bytes = json_bytes(data, subject)
    if size_bytes > MAX_VALUES_BYTES:
        raise InputError(
            f"{subject}: too many values: expected what takes at most {MAX_VALUES_BYTES} bytes of memory, got "
            f"{size_bytes}. Save a table as .jsonl, and large arrays as .npy."
        )


def _has_wide(piece: bytes) -> bool:
    return (b"\\" in piece and b"\\u" in piece) or (not piece.isascii() and bool(piece.translate(None, _NARROW)))


def _piece_bytes(piece: bytes, quotes: int) -> int:
    return (
        _LIST_BYTES * piece.count(b"[")
        + _OBJECT_BYTES * piece.count(b"{")
        + _NUMBER_BYTES * piece.count(b",")
        + _TEXT_BYTES // 2 * quotes
    )


def json_reason(error: Exception, text: bytes | str) -> str:
    """Return why a text is not JSON, as the parser says it, and what other languages write where it ended."""
    reason = str(error).rstrip(".")
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    half = _HALF_CHARACTER.search(data) if "truncated" in reason else None
    if half is not None:
        return f"half of a character, {half.group().decode()}, whose other half does not follow"
    place = _PLACE.search(reason)
    if place is None:
        return reason
    # The parser names a character inside a word, or behind a sign.
    near = data[max(0, int(place.group(1)) - 2) :][:12].decode("latin-1")
    for word, json in _OTHER_WORDS.items():
        if word in near:
            return f"{reason}: JSON has no {word}, but {json}"
    return reason
