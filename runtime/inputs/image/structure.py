"""The parts of an image file, counted before it is opened: Pillow goes through them one by one, in Python."""

import re
from collections.abc import Callable, Iterator
from typing import Literal

from runtime.errors import InputError

# Segments, chunks or blocks before the pixels, and bytes between them: far more than any camera or editor writes.
_MOST_PARTS = 10_000

# A PNG has one chunk for every few kilobytes of pixels.
_MOST_CHUNKS = 100_000

_MOST_TAGS = 1000

# Pillow joins the Exif segments of a JPEG one by one: 60 MB of them take a minute. Cameras write one, of 64 kB.
_MOST_EXIF_SEGMENTS = 64

# BMP's kinds of compression: runs of 8 and of 4 bits.
_RUNS = {1, 2}

# Decoding goes through all pixels for each scan of a JPEG: progressive ones have about ten.
_MOST_SCANS = 200
_MOST_SCANNED_PIXELS = 2**30

# Pillow reads pixels that are written as text, and comments, byte by byte.
_MOST_TEXT_BYTES = 4 * 2**20
_HEADER_BYTES = 4096

_SOI, _EOI, _SOS, _TEM, _APP1 = 0xD8, 0xD9, 0xDA, 0x01, 0xE1
_RESTARTS = range(0xD0, 0xD8)
_WITHOUT_LENGTH = frozenset({0, _TEM, _SOI, _EOI, *_RESTARTS})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})

# Between scans: no stuffed byte, no restart marker, no byte that fills up. Searching a piece holds Python's lock.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PIECE_BYTES = 2**20

# Bytes that fill up the space before a marker: more than anyone writes.
_FILL = b"\xff" * 256

_COMMENT = re.compile(rb"#[^\r\n]*[\r\n]?")


def check_structure(data: bytes, subject: str) -> None:
    """Raise InputError for an image file of so many parts that going through them takes seconds."""
    for magic, check in _CHECKS.items():
        if data.startswith(magic):
            check(data, subject)
            return


def _check_jpeg(data: bytes, subject: str) -> None:
    position, parts, exif, pixels, components, progressive = 2, 0, 0, 0, 0, False
    while position + 4 <= len(data):
        parts += 1
        if parts > _MOST_PARTS or exif > _MOST_EXIF_SEGMENTS:
            raise _too_many(subject, "segments")
        first, marker = data[position], data[position + 1]
        if first != 0xFF or marker == 0xFF:  # fills up, or is skipped
            if first not in {0xFF, 0}:
                return  # which is Pillow's to refuse
            position += 1
            continue
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        if marker in _FRAMES and position + 10 <= len(data):
            height, width = (int.from_bytes(data[position + at : position + at + 2]) for at in (5, 7))
            pixels, components, progressive = height * width, data[position + 9], marker in _PROGRESSIVE
        exif += marker == _APP1 and data.startswith(b"Exif", position + 4)
        if marker == _SOS:
            if progressive or data[position + 4 : position + 5] < bytes([components]):
                _check_scans(data, position, pixels, subject)
            return
        position += 2 + max(2, int.from_bytes(data[position + 2 : position + 4]))


def _check_scans(data: bytes, start: int, pixels: int, subject: str) -> None:
    """Raise InputError for a JPEG of several scans that has too many, the first of which begins at ``start``."""
    scans = 0
    for parts, marker in enumerate(_markers(data, start, subject)):
        scans += marker == _SOS
        if scans > _MOST_SCANS or scans * pixels > _MOST_SCANNED_PIXELS or parts > _MOST_PARTS:
            raise InputError(
                f"{subject}: too many scans in this JPEG: got {scans} of {pixels / 1e6:.1f} megapixels, or more. Save "
                "it again."
            )


def _markers(data: bytes, position: int, subject: str) -> Iterator[int]:
    """Yield the markers of a JPEG from a position on, up to its end; segments are skipped by their length."""
    while position < len(data):
        found = _MARKER.search(data, position, position + _PIECE_BYTES)
        if data.find(_FILL, position, position + _PIECE_BYTES if found is None else found.start()) >= 0:
            raise _too_many(subject, "segments")
        if found is None:
            position += _PIECE_BYTES - 1  # a marker may lie across the end
            continue
        marker = found.group()[1]
        if marker == _EOI:
            return
        yield marker
        position = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2]))


def _check_png(data: bytes, subject: str) -> None:
    position, chunks, others = 8, 0, 0
    while position + 8 <= len(data):
        chunks += 1
        others += data[position + 4 : position + 8] != b"IDAT"
        if chunks > _MOST_CHUNKS or others > _MOST_PARTS:
            raise _too_many(subject, "chunks")
        position += 12 + int.from_bytes(data[position : position + 4])


def _check_gif(data: bytes, subject: str) -> None:
    """Raise InputError for too many blocks before the first image, which alone is read."""
    flags = data[10] if len(data) > 10 else 0
    position, blocks = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0
    while position < len(data) and data[position : position + 1] not in {b",", b";"}:
        is_extension = data[position : position + 1] == b"!"
        position += 2 if is_extension else 1
        blocks += 1
        while is_extension and position < len(data) and data[position]:
            position += 1 + data[position]
            blocks += 1
            if blocks > _MOST_PARTS:
                break
        position += is_extension
        if blocks > _MOST_PARTS:
            raise _too_many(subject, "blocks")


def _check_webp(data: bytes, subject: str) -> None:
    position, chunks = 12, 0
    while position + 8 <= len(data):
        chunks += 1
        if chunks > _MOST_PARTS:
            raise _too_many(subject, "chunks")
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + length % 2


def _check_tiff(data: bytes, subject: str) -> None:
    """Raise InputError for too many tags of the first page, which alone is read."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    is_big = 43 in data[2:4]
    offset = int.from_bytes(data[8:16] if is_big else data[4:8], order)
    if int.from_bytes(data[offset : offset + (8 if is_big else 2)], order) > _MOST_TAGS:
        raise _too_many(subject, "tags")


def _check_bmp(data: bytes, subject: str) -> None:
    """Raise InputError for a large file of runs, which Pillow unpacks byte by byte."""
    if int.from_bytes(data[30:34], "little") in _RUNS and len(data) > _MOST_TEXT_BYTES:
        raise InputError(
            f"{subject}: too large for a BMP of runs (RLE): expected at most {_MOST_TEXT_BYTES} bytes, got "
            f"{len(data)}. Save it as PNG."
        )


def _check_pnm(data: bytes, subject: str) -> None:
    if data[1:2] not in {b"1", b"2", b"3", b"4", b"5", b"6", b"f"}:
        return  # another file, such as a zip archive
    if data[1:2] in {b"1", b"2", b"3"} and len(data) > _MOST_TEXT_BYTES:
        raise InputError(
            f"{subject}: too large for pixels that are written as text: expected at most {_MOST_TEXT_BYTES} bytes, got "
            f"{len(data)}. Save it as binary PGM or PPM, or as PNG."
        )
    if len(data) > _HEADER_BYTES and len(_COMMENT.sub(b"", data[:_HEADER_BYTES]).split()) < 3:
        raise _too_many(subject, "comments")


def _too_many(subject: str, parts: str) -> InputError:
    return InputError(f"{subject}: too many {parts} in this image, or bytes between them. Save it again.")


_CHECKS: dict[bytes, Callable[[bytes, str], None]] = {
    b"\xff\xd8": _check_jpeg,
    b"\x89PNG\r\n\x1a\n": _check_png,
    b"GIF8": _check_gif,
    b"RIFF": _check_webp,  # which other files also begin with: all of them have chunks
    b"II*\0": _check_tiff,
    b"II+\0": _check_tiff,
    b"MM\0*": _check_tiff,
    b"MM\0+": _check_tiff,
    b"BM": _check_bmp,
    b"P": _check_pnm,
}
