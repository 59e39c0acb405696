"""Text encodings of request bodies: JSON and plain text that are not UTF-8."""

import codecs

from runtime.errors import InputError
from runtime.server.admission import BodyReservation
from runtime.server.errors import MediaTypeError

# Those that clients send; others of Python's take quadratic time, or are no encodings of text. UTF-8 needs nothing.
_CHARSETS = {
    name: charset
    for charset, names in {
        "utf-8": ("", "utf-8", "utf8", "us-ascii", "ascii"),
        "utf-16": ("utf-16", "utf16"),
        "utf-16-le": ("utf-16le",),
        "utf-16-be": ("utf-16be",),
        "latin-1": ("iso-8859-1", "latin1", "latin-1"),
        "cp1252": ("windows-1252", "cp1252"),
    }.items()
    for name in names
}


# What a text and its UTF-8 take, in lengths of the body.
_MOST_COPIES = 4


def to_utf8(body: bytes, content_type: str, reservation: BodyReservation) -> bytes:
    """Return a text in UTF-8 and without its byte order mark, of the encoding that its media type or its mark names.

    A body that is UTF-8 is returned as it is; the memory of another's copies is reserved. Raises MediaTypeError for an
    encoding that is not known, InputError for a body that is not of it, QueueFullError where the memory is in use.
    """
    name = _charset_of(content_type)
    if body.startswith(codecs.BOM_UTF8):
        reservation.extend(len(body))
        return body[len(codecs.BOM_UTF8) :]
    charset = "utf-16" if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else _CHARSETS.get(name)
    if charset == "utf-8" or (charset is None and body.isascii()):
        return body
    if charset is None:
        raise MediaTypeError(f"Content-Type: charset not known: got {name[:40]!r}. Send the text in UTF-8.")
    reservation.extend(_MOST_COPIES * len(body))
    try:
        return body.decode(charset).encode()
    except UnicodeError:
        raise InputError(f"body: not of its charset {charset}. Send the text in UTF-8.") from None


def _charset_of(content_type: str) -> str:
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'").lower()
    return ""
