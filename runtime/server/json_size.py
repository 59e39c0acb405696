"""What the values of a JSON text take in Python, known before they are made: memory, and time for long numbers."""

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

# Counting holds Python's lock: the event loop has its turn between pieces.
_PIECE_BYTES = 1024 * 1024


def json_bytes(text: bytes) -> int:
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
            f"body: numbers of too many digits: expected at most {len(_MANY_DIGITS) - 1}, got more in "
            f"{long_numbers} places. Send floating-point numbers."
        )
    # Only a long text covers a whole piece; short ones are widened one by one, those with such a character alone.
    return size_bytes + _WIDE_BYTES * unquoted_bytes * wide


def _has_wide(piece: bytes) -> bool:
    return (b"\\" in piece and b"\\u" in piece) or (not piece.isascii() and bool(piece.translate(None, _NARROW)))


def _piece_bytes(piece: bytes, quotes: int) -> int:
    return (
        _LIST_BYTES * piece.count(b"[")
        + _OBJECT_BYTES * piece.count(b"{")
        + _NUMBER_BYTES * piece.count(b",")
        + _TEXT_BYTES // 2 * quotes
    )
