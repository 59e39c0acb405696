"""Small damage of large effect: image files of countless parts, each of which Pillow goes through in Python."""

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image


def slow_photos(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and image files of about ``size`` bytes."""
    jpeg, progressive = _saved("JPEG"), _saved("JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    wide = _saved("JPEG", (4000, 4000), progressive=True)
    last = wide[wide.rindex(b"\xff\xda") : -2]
    for name, filler in {
        "APP1": b"\xff\xe1\x00\x02",
        "comments": b"\xff\xfe\x00\x03a",
        "fill bytes": b"\xff",
        "zeros": b"\0",
    }.items():
        yield f"JPEG of {name}", jpeg[:2] + filler * (size // len(filler)) + jpeg[2:]
    exif = b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)
    yield "JPEG of Exif", jpeg[:2] + exif * max(size // len(exif), 100) + jpeg[2:]
    yield "JPEG of scans", progressive[:-2] + scan * (size // len(scan)) + b"\xff\xd9"
    yield "JPEG of large scans", wide[:-2] + last * 150 + b"\xff\xd9"
    yield "JPEG of tables", progressive[:-2] + b"\xff\xc4\x00\x02" * (size // 4) + b"\xff\xd9"
    yield "JPEG of fill bytes between scans", progressive[:-2] + b"\xff" * size + b"\xff\xd9"
    png = _saved("PNG")
    for name, at in (("before", 33), ("after", len(png) - 12)):
        yield f"PNG of chunks {name} its pixels", png[:at] + _chunk(b"aaAa") * (size // 12) + png[at:]
    yield "PNG of empty pixels", png[:-12] + _chunk(b"IDAT") * max(size // 12, 150_000) + png[-12:]
    gif = b"GIF89a" + struct.pack("<HH", 8, 8) + b"\0\0\0"
    for name, filler in {"extensions": b"!\xfe\0", "unknown blocks": b"\1"}.items():
        yield f"GIF of {name}", gif + filler * (size // len(filler))
    yield "GIF of sub-blocks", gif + b"!\xfe" + b"\1a" * (size // 2)
    webp = _saved("WEBP")[12:] + b"ABCD\0\0\0\0" * (size // 8)
    yield "WebP of chunks", b"RIFF" + struct.pack("<I", 4 + len(webp)) + b"WEBP" + webp
    tags = b"".join(struct.pack("<HHII", number, 2, 100, 100) for number in range(65_535))
    yield "TIFF of tags", b"II*\0\x08\0\0\0" + struct.pack("<H", 65_535) + tags + bytes(100)
    yield "PPM of comments", b"P6\n" + b"#\n" * (size // 2) + b"1 1 255\n123"
    yield "PPM of blanks", b"P6" + b" " * size + b"1 1 255\n123"
    yield "PGM of text", b"P2 5000 5000 255\n" + b"1 " * max(size // 2, 2_500_000)
    header = struct.pack("<IIiiHHIIiiII", 0x436, 40, 8000, 8000, 1, 8, 1, 0, 0, 0, 256, 0)
    yield "BMP of runs", b"BM" + bytes(8) + header + bytes(1024) + b"\0\0" * max(size // 2, 2_500_000)


def _saved(form: str, size: tuple[int, int] = (50, 50), **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, form, **options)
    return stream.getvalue()


def _chunk(kind: bytes) -> bytes:
    return struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))
