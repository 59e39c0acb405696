"""TIFF files: their sizes and what their parts unpack to, checked before anything is unpacked."""

import io
import logging
import lzma
import math
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import InputError
from runtime.inputs.image.limits import limit_bytes

# More than any picture has: its channels, or its overviews.
_MOST_PAGES = 1024

# The tags of a tile's sides, of the samples of a pixel and of the bits of a sample.
_TILE_SIDES = (322, 323)
_SAMPLES = 277
_BITS = 258

# The memory of one decompressor; xz asks for up to 1.5 GB.
_LZMA_BYTES = 2**28


def _open_zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        return None  # tifffile then needs imagecodecs, which unpacks no more than is asked of it
    return zstd.ZstdDecompressor()


# What Python unpacks, and any number of bytes of it, by the TIFF number of the compression.
_UNPACKERS: dict[int, Callable[[], Any]] = {
    **dict.fromkeys((8, 32946, 50013), zlib.decompressobj),
    34925: lambda: lzma.LZMADecompressor(memlimit=_LZMA_BYTES),
    **dict.fromkeys((50000, 34926), _open_zstd),
}


def read_tiff(data: bytes, check: Callable[[tuple[int, ...]], None], *, subject: str, max_pixels: int) -> NDArray[Any]:
    """Return the pixels of a TIFF file with any number of channels, as tifffile reads them.

    ``check`` raises InputError for a size [height, width] that is too large. Raises InputError for a file of more pages
    than a picture has, or whose array, tiles or strips are larger than the limit or than what it says of them.
    """
    try:
        import tifffile
    except ModuleNotFoundError:
        raise InputError(
            f"{subject}: reading TIFF files needs tifffile: not installed. Run: pip install 'truecopy[tiff]'."
        ) from None
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it finds wrong is in the errors of the inputs
    limit = limit_bytes(max_pixels)
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        page = opened.pages.first
        check((page.imagelength, page.imagewidth))
        _check_bytes(math.prod(page.shaped) * _itemsize(page), limit, subject)
        _check_pages(opened, subject)
        series = opened.series[0]
        _check_bytes(math.prod(series.shape) * series.dtype.itemsize, limit, subject)
        for part in series.pages:
            if part is not None:
                _check_segments(data, part, limit, subject)
        array: NDArray[Any] = opened.asarray(maxworkers=1)
    return array


def check_tiff_tags(image: Image.Image, *, subject: str, max_pixels: int) -> None:
    """Raise InputError for a TIFF file that Pillow has opened, and whose tiles are larger than the limit."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return
    bits = tags.get(_BITS, (8,))
    item_bytes = -(-max(bits if isinstance(bits, tuple) else (bits,)) // 8)
    tile = math.prod(int(tags.get(tag, 1)) for tag in (*_TILE_SIDES, _SAMPLES))
    _check_bytes(tile * item_bytes, limit_bytes(max_pixels), subject)


def _check_pages(opened: Any, subject: str) -> None:
    """Raise InputError for too many pages; a chain of pages may lead back to itself."""
    try:
        opened.pages[_MOST_PAGES]
    except IndexError:
        return
    raise InputError(f"{subject}: too many pages: expected at most {_MOST_PAGES}. Write its picture alone.")


def _check_segments(data: bytes, page: Any, limit: int, subject: str) -> None:
    """Raise InputError for a tile or strip that is, or unpacks to, more than the file says and the limit allows."""
    frame = page.keyframe
    sides = (
        (frame.tilelength, frame.tilewidth)
        if frame.is_tiled
        else (min(frame.rowsperstrip, frame.imagelength), frame.imagewidth)
    )
    samples = frame.samplesperpixel if frame.planarconfig == 1 else 1
    size = math.prod(sides) * samples * max(1, frame.tiledepth if frame.is_tiled else 1) * _itemsize(frame)
    _check_bytes(size, limit, subject)
    unpacker = _UNPACKERS.get(int(frame.compression))
    if unpacker is not None:
        _check_unpacked(data, zip(page.dataoffsets, page.databytecounts, strict=False), unpacker, size, subject)


def _check_unpacked(
    data: bytes, segments: Iterable[tuple[int, int]], open_unpacker: Callable[[], Any], size: int, subject: str
) -> None:
    for start, length in set(segments):
        unpacker = open_unpacker()
        # tifffile takes a strip that unpacks to more than its pixels, and drops the rest.
        if unpacker is not None and len(unpacker.decompress(data[start : start + length], 2 * size + 1)) > 2 * size:
            raise InputError(
                f"{subject}: damaged: a tile or strip of {size} bytes unpacks to more than twice as many. Write it "
                "again."
            )


def _itemsize(page: Any) -> int:
    return int(np.dtype(page.dtype).itemsize) if page.dtype is not None else -(-int(page.bitspersample) // 8)


def _check_bytes(size_bytes: int, limit: int, subject: str) -> None:
    if size_bytes > limit:
        raise InputError(
            f"{subject}: too large: expected at most {limit:,} bytes in an array, tile or strip, got {size_bytes:,}. "
            "Make it smaller, or raise the limit (max_pixels, --max-megapixels)."
        )
