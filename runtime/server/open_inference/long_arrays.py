"""Long arrays of numbers, taken out of a request's JSON before the rest is parsed."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

# Shorter arrays are parsed with the rest, whose parser holds Python's lock until it is done.
LONG_BYTES = 64 * 1024

# The member of a tensor that holds its values, and the start of an array after it; strings have no such end, because
# a quote inside them has a backslash before it.
_KEY = b'"data"'
_ARRAY = re.compile(rb"[ \t\r\n]{0,16}:[ \t\r\n]{0,16}(?=\[)")

# No client knows it, so that none of its own texts is taken for an array.
_NAME = secrets.token_hex(16).encode()


@dataclass(frozen=True, kw_only=True)
class ShortenedJson:
    """JSON whose long arrays of numbers are texts instead; ``arrays`` has the arrays, not yet parsed, by such texts."""

    text: bytes
    arrays: dict[bytes, bytes]

    def array(self, value: memoryview) -> bytes:
        """Return the array that a value of ``text`` stands for, or the value itself."""
        data = bytes(value)
        return self.arrays.get(data, data)


def take_long_arrays(text: bytes, length: int) -> ShortenedJson:
    """Return the JSON in the first ``length`` bytes of ``text`` without the long arrays of its members 'data'.

    Only arrays without texts are taken, flat and nested. Whether they are valid is for their reader to check.
    """
    view = memoryview(text)
    parts: list[memoryview | bytes] = []
    arrays: dict[bytes, bytes] = {}
    position = 0
    for start, end in _spans_without_quotes(text, length):
        match = _ARRAY.match(text, start, end)
        if match is None or not text.endswith(_KEY, 0, start):
            continue
        # Objects end at their brace; without one, the next member's quote follows.
        brace = text.find(b"}", match.end(), end)
        last = text.rfind(b"]", match.end(), end if brace < 0 else brace)
        if last - match.end() < LONG_BYTES:
            continue
        name = b'"%b-%d"' % (_NAME, len(arrays))
        arrays[name] = text[match.end() : last + 1]
        parts += [view[position : match.end()], name]
        position = last + 1
    if not arrays:
        return ShortenedJson(text=text[:length], arrays={})
    return ShortenedJson(text=b"".join([*parts, view[position:length]]), arrays=arrays)


def _spans_without_quotes(text: bytes, length: int) -> Iterator[tuple[int, int]]:
    """Yield the spans between two quotes, or after the last one: all of ``LONG_BYTES`` or more, and some shorter."""
    block = LONG_BYTES // 2  # a long span covers a whole one, wherever it begins
    start = 0
    while start + block <= length:
        if text.find(b'"', start, start + block) >= 0:
            start += block
            continue
        following = text.find(b'"', start + block, length)
        end = length if following < 0 else following
        yield text.rfind(b'"', 0, start) + 1, end
        start = end + 1
