"""What an image becomes on its way to the network is bounded by its header alone, before anything is decoded."""

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

import runtime
from runtime.geometry.memory import largest_need
from runtime.geometry.preparation import prepare
from runtime.geometry.sizes import PreparedShape
from runtime.inputs.image.decoder import MAX_PIXELS, ImageDecoder, decode_image
from runtime.inputs.image.limits import check_size
from runtime.manifest import CenterCrop, ImageInput, KeepRatio, Pad, Preprocessing, Resize, ShareCrop

tifffile = pytest.importorskip("tifffile")

SHORT = Resize(size=256, interpolation="bilinear", axis_order="larger_cut_first")
CROP = CenterCrop(height=224, width=224)


def spec_of(*steps, exif=False, fixed=None, **fields) -> ImageInput:
    size = (None, None) if fixed is None else fixed
    preprocessing = Preprocessing(geometry=steps, arithmetic=(), height=size[0], width=size[1], channels=3)
    return ImageInput(**{"name": "image", "mode": "RGB", "exif": exif, "preprocessing": preprocessing, **fields})


def exact(implementation="pillow", antialias=True, order="horizontal_first", interpolation="bilinear") -> Resize:
    return Resize(
        size=(64, 64), interpolation=interpolation, axis_order=order, implementation=implementation, antialias=antialias
    )


def png_header(width: int, height: int) -> bytes:
    """A PNG whose pixels are missing: only what looks at the header first can say what is wrong with it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IDAT"


# Sizes (width, height) within the limit of pixels that a step makes large.
STRIPS = [
    ((1, 100_000), spec_of(SHORT)),
    ((1, 100_000), spec_of(SHORT, CROP, fixed=(224, 224))),
    ((100_000, 1), spec_of(Resize(size=256, interpolation="nearest", axis_order="horizontal_first"))),
    ((1, 60_000_000), spec_of(exact(), fixed=(64, 64))),  # between the passes
    ((1, 60_000_000), spec_of(exact("torch"), fixed=(64, 64))),
    ((60_000_000, 1), spec_of(exact("opencv", antialias=False), fixed=(64, 64))),
    ((1, 60_000_000), spec_of(exact(order="larger_cut_first", interpolation="lanczos"), fixed=(64, 64))),  # its weights
    ((60_000_000, 1), spec_of(Pad(left=0, top=9, right=0, bottom=9, mode="edge"))),
    ((200, 100_000), spec_of(Resize(size=KeepRatio(height=640, width=640, side="outside", arithmetic="divide"),
                                    interpolation="bilinear", axis_order="horizontal_first"))),
    ((6000, 6000), spec_of()),  # as a tensor
]  # fmt: skip


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("size", "spec"), STRIPS)
def test_an_image_that_becomes_too_large_is_refused_by_its_header(size, spec, fast):
    start = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(runtime.InputError, match=rf"^'x': too large: {size[0]} x {size[1]} pixels would take "):
            decode_image(png_header(*size), spec, subject="'x'", fast=fast)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < 1


def test_every_form_of_an_image_is_checked():
    spec, pixels = spec_of(SHORT), np.zeros((20_000, 2, 3), np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    for source in (pixels, Image.fromarray(pixels), jpeg.getvalue()):
        for fast in (False, True):
            with pytest.raises(runtime.InputError, match=r"for the network's input, in float32: expected at most"):
                decode_image(source, spec, subject="'x'", fast=fast)


def test_a_rotation_that_exif_may_ask_for_counts():
    size, steps = (1, 4_000_000), (exact(),)
    check_size(size, spec_of(*steps, fixed=(64, 64)), subject="'x'", max_pixels=MAX_PIXELS)
    with pytest.raises(runtime.InputError, match="too large"):
        check_size(size, spec_of(*steps, fixed=(64, 64), exif=True), subject="'x'", max_pixels=MAX_PIXELS)


def test_the_limit_is_the_users():
    with pytest.raises(runtime.InputError, match=r"max_pixels, --max-megapixels"):
        check_size((1, 1000), spec_of(SHORT), subject="'x'", max_pixels=MAX_PIXELS)
    check_size((1, 1000), spec_of(SHORT), subject="'x'", max_pixels=5 * MAX_PIXELS)


@pytest.mark.parametrize("size", [(8000, 8000), (4000, 3000), (500, 12_000), (1, 1)])
def test_usual_photos_pass(size):
    for steps in ((SHORT, CROP), (exact(),), (exact("torch"),), (exact("opencv", antialias=False),)):
        check_size(size, spec_of(*steps, fixed=(224, 224)), subject="'x'", max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("step", "height", "width"),
    [
        (Resize(size=64, max_size=96, interpolation="bilinear", axis_order="larger_cut_first"), 3, 700),
        (ShareCrop(height=0.4, width=0.9), 2, 90),
    ],
)
def test_an_image_of_which_a_step_leaves_nothing_is_refused_and_one_pixel_more_is_not(step, height, width):
    decoder = ImageDecoder(spec_of(CenterCrop(height=height, width=width), step), None)
    with pytest.raises(runtime.InputError, match=rf"^'x': too narrow: .* none of its {width} x {height} pixels"):
        decoder.decode(np.zeros((height, width, 3), np.uint8), subject="'x'")

    taller = ImageDecoder(spec_of(step), None)
    decoded = taller.decode(np.zeros((3 * height, width, 3), np.uint8), subject="'x'")
    assert min(taller.prepare(decoded).shape) >= 1


def test_what_the_model_itself_makes_large_is_not_the_images_fault():
    spec = spec_of(CenterCrop(height=9000, width=9000), fixed=(9000, 9000))
    check_size((4, 4), spec, subject="'x'", max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("size", [(3, 5), (40, 7), (7, 40)])
def test_the_computed_sizes_are_those_of_the_steps(size):
    steps = (SHORT, Pad(left=1, top=2, right=3, bottom=4, mode="reflect"))
    prepared = prepare(Image.fromarray(np.zeros((*size, 3), np.uint8)), steps)
    shape = PreparedShape(size=size, channels=3)

    need = largest_need(shape, spec_of(*steps).preprocessing, itemsize=1)

    assert need.size_bytes == prepared.size * 4
    assert need.what == "the network's input, in float32"


BANDS = spec_of(mode="bands", channels=3, dtype="uint8")


def decode_bands(data: bytes, **limits):
    return decode_image(data, BANDS, subject="'x'", **limits).to_array()


def tiff(array, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def patched(data: bytes, **tags: int) -> bytes:
    """A TIFF file with other values in tags of its first page."""
    buffer = io.BytesIO(data)
    with tifffile.TiffFile(buffer) as opened:
        page = opened.pages.first
        offsets = {name: (page.tags[name].valueoffset, page.tags[name].dtype) for name in tags}
    changed = bytearray(data)
    for name, value in tags.items():
        offset, dtype = offsets[name]
        struct.pack_into("<H" if dtype == 3 else "<I", changed, offset, value)
    return bytes(changed)


PIXELS = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16), "compression": "zlib"},
                                     {"rowsperstrip": 5, "compression": "zlib"}])  # fmt: skip
def test_honest_tiff_files_are_read(options):
    assert np.array_equal(decode_bands(tiff(PIXELS, **options)), PIXELS)


def test_channels_in_pages_are_read():
    assert np.array_equal(decode_bands(tiff(PIXELS.transpose(2, 0, 1), photometric="minisblack")), PIXELS)


def strip_bomb() -> bytes:
    """A strip of 16 x 16 pixels that unpacks to 200 MB."""
    data = tiff(PIXELS, compression="zlib")
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        counts = opened.pages.first.tags["StripByteCounts"]
        offsets = opened.pages.first.tags["StripOffsets"]
    bomb = zlib.compress(bytes(200_000_000), 9)
    changed = bytearray(data)
    for tag, value in ((offsets, len(data)), (counts, len(bomb))):
        struct.pack_into("<H" if tag.dtype == 3 else "<I", changed, tag.valueoffset, value)
    return bytes(changed) + bomb


def many_pages() -> bytes:
    return tiff(np.zeros((1100, 2, 2), np.uint8), photometric="minisblack", metadata=None)


def circle_of_pages() -> bytes:
    """Each page's next page is the first one again."""
    data = bytearray(tiff(np.zeros((120, 2, 2), np.uint8), photometric="minisblack", metadata=None))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as opened:
        last, second = opened.pages[-1], opened.pages[1]
        end = last.offset + 2 + 12 * len(last.tags)
    struct.pack_into("<I", data, end, second.offset)
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: patched(tiff(PIXELS, tile=(16, 16)), TileWidth=60_000, TileLength=60_000), "in an array"),
        (lambda: patched(tiff(PIXELS), ImageLength=9000, ImageWidth=9000), "expected at most 64 megapixels"),
        (lambda: patched(tiff(PIXELS), SamplesPerPixel=60_000, ImageLength=999), "in an array"),
        (lambda: tiff(np.zeros((70, 1000, 3000), np.uint8), photometric="minisblack", compression=8), "in an array"),
        (strip_bomb, "unpacks to more than twice as many"),
        (many_pages, "too many pages"),
        (circle_of_pages, ""),
    ],
)  # fmt: skip
def test_a_tiff_file_of_bands_that_unpacks_to_too_much_is_refused_first(make, reason):
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(runtime.InputError, match=f"^'x': .*{reason}"):
            decode_bands(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000 + 3 * len(data)
    finally:
        tracemalloc.stop()


def test_a_photo_in_a_tiff_file_with_a_huge_tile_is_refused():
    """Pillow makes room for the tile that the file claims."""
    data = patched(tiff(PIXELS, tile=(16, 16), compression="zlib"), TileWidth=20_000, TileLength=20_000)
    with pytest.raises(runtime.InputError, match=r"^'x': too large: .* tile or strip"):
        decode_image(data, spec_of(), subject="'x'")


def test_an_array_of_bands_counts_in_bytes():
    stream = io.BytesIO()
    np.save(stream, np.zeros((4, 4, 3), np.float64))
    with pytest.raises(runtime.InputError, match="too large: expected at most 90 bytes"):
        decode_bands(stream.getvalue(), max_pixels=30)
