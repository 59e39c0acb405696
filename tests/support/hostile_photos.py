"""Photos as they come: good ones of every kind that decoders treat apart, and files that are none.

Whatever runs the artifact must answer all of them alike: ``write_photos`` writes the same bytes every time.
"""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).parents[1] / "data"
SOURCES = ("cat", "coffee", "rocket", "astronaut")


def write_photos(folder: Path, count: int) -> list[Path]:
    """Write ``count`` photos into a new folder, one of each kind first, then again of other photos and sizes."""
    folder.mkdir(parents=True)
    paths = []
    for number in range(count):
        name, make = KINDS[number % len(KINDS)]
        paths.append(folder / f"{number:04}-{name}")
        paths[-1].write_bytes(make(_picture(number)))
    return paths


def _picture(number: int) -> Image.Image:
    """Return a crop of one of the photos; with another size and position for every number."""
    with Image.open(DATA / f"{SOURCES[number % len(SOURCES)]}.jpg") as opened:
        image = opened.convert("RGB")
    random = np.random.default_rng(number)
    width = int(random.integers(image.width // 2, image.width))
    height = int(random.integers(image.height // 2, image.height))
    left = int(random.integers(0, image.width - width + 1))
    top = int(random.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _saved(form: str, mode: str = "RGB", **options: object) -> Callable[[Image.Image], bytes]:
    def make(image: Image.Image) -> bytes:
        stream = io.BytesIO()
        image.convert(mode).save(stream, form, **options)
        return stream.getvalue()

    return make


def _turned(orientation: int) -> Callable[[Image.Image], bytes]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _saved("JPEG", exif=exif)


def _cut(form: str, share: float) -> Callable[[Image.Image], bytes]:
    def make(image: Image.Image) -> bytes:
        data = _saved(form)(image)
        return data[: int(len(data) * share)]

    return make


def _deep_png(image: Image.Image) -> bytes:
    """Return 16 bits of gray."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257).save(stream, "PNG")
    return stream.getvalue()


def _float_tiff(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(image.convert("L"), np.float32)).save(stream, "TIFF")
    return stream.getvalue()


def _palette_with_transparency(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.convert("P").save(stream, "PNG", transparency=3)
    return stream.getvalue()


def _animation(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "GIF", save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    return stream.getvalue()


def _of_size(width: int, height: int) -> Callable[[Image.Image], bytes]:
    return lambda image: _saved("PNG")(image.resize((width, height)))


def _png_bomb(image: Image.Image) -> bytes:
    """Return a small file that claims 20,000 x 20,000 pixels, all of which it has."""
    del image
    rows = zlib.compressobj(9)
    data = b"".join([rows.compress(bytes(2501)) for _ in range(20_000)] + [rows.flush()])
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _gif_bomb(image: Image.Image) -> bytes:
    data = bytearray(_saved("GIF", "P")(image))
    data[6:10] = struct.pack("<HH", 65_535, 65_535)
    return bytes(data)


# By the ending of their names: what they are, and how they are made of a picture.
KINDS: tuple[tuple[str, Callable[[Image.Image], bytes]], ...] = (
    ("plain.jpg", _saved("JPEG")),
    ("progressive.jpg", _saved("JPEG", progressive=True, quality=60)),
    ("gray.jpg", _saved("JPEG", "L")),
    ("cmyk.jpg", _saved("JPEG", "CMYK")),
    ("upright.jpg", _turned(1)),
    ("mirrored.jpg", _turned(2)),
    ("upside-down.jpg", _turned(3)),
    ("turned.jpg", _turned(6)),
    ("turned-back.jpg", _turned(8)),
    ("wrong-turn.jpg", _turned(99)),
    ("plain.png", _saved("PNG")),
    ("palette.png", _saved("PNG", "P")),
    ("palette-transparent.png", _palette_with_transparency),
    ("alpha.png", _saved("PNG", "RGBA")),
    ("gray-alpha.png", _saved("PNG", "LA")),
    ("one-bit.png", _saved("PNG", "1")),
    ("16-bit.png", _deep_png),
    ("float.tiff", _float_tiff),
    ("lzw.tiff", _saved("TIFF", compression="tiff_lzw")),
    ("plain.bmp", _saved("BMP")),
    ("plain.webp", _saved("WEBP")),
    ("animation.gif", _animation),
    ("1x1.png", _of_size(1, 1)),
    ("1x700.png", _of_size(1, 700)),
    ("900x2.png", _of_size(900, 2)),
    ("really-a-png.jpg", _saved("PNG")),
    ("empty.jpg", lambda _: b""),
    ("garbage.jpg", lambda _: bytes(range(256)) * 40),
    ("page.jpg", lambda _: b"<!DOCTYPE html><html><title>404 Not Found</title></html>"),
    ("pointer.jpg", lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"),
    ("header-only.jpg", _cut("JPEG", 0.02)),
    ("truncated.jpg", _cut("JPEG", 0.6)),
    ("truncated.png", _cut("PNG", 0.6)),
    ("bomb.png", _png_bomb),
    ("bomb.gif", _gif_bomb),
    ("with-a-tail.jpg", lambda image: _saved("JPEG")(image) + b"\0" * 1000 + b"trailing"),
)
