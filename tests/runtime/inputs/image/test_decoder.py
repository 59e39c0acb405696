"""Pixels are what Pillow's open().convert("RGB") gives; what is not an image is refused, cheaply."""

import io
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from PIL import Image, ImageFile

import runtime
from runtime.inputs.image.decoder import ImageDecoder, decode_image
from runtime.manifest import CenterCrop, ImageInput, Preprocessing, Resize

PREPROCESSING = Preprocessing(geometry=(), arithmetic=(), height=1, width=1, channels=3)
SPEC = ImageInput(name="image", mode="RGB", exif=False, preprocessing=PREPROCESSING)


def decode(source):
    return decode_image(source, SPEC, subject="'x'").image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def photo(photos) -> Image.Image:
    return Image.open(photos["cat"]).convert("RGB")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_format_decodes_to_pillows_pixels(photo, kind):
    data = encoded(photo, kind)

    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    assert np.array_equal(np.asarray(decode(data)), expected)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("I;16", "PNG"), ("CMYK", "JPEG")],
)
def test_every_mode_follows_convert(photo, mode, kind):
    source = photo.convert("I").convert("I;16") if mode == "I;16" else photo.convert(mode)
    data = encoded(source, kind)

    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    assert np.array_equal(np.asarray(decode(data)), expected)


def test_exif_rotation_is_applied_only_if_the_manifest_says_so(photo):
    """torchvision's loaders do not apply it, so the network was not trained on rotated photos."""
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: rotate by 90 degrees to view
    data = encoded(photo, "JPEG", exif=exif)
    as_trained = decode_image(data, SPEC, subject="'x'")
    turned = decode_image(data, msgspec.structs.replace(SPEC, exif=True), subject="'x'")

    assert as_trained.turned
    assert as_trained.image.size == photo.size
    assert turned.image.size == photo.size[::-1]
    assert np.array_equal(np.asarray(turned.image), np.rot90(np.asarray(as_trained.image), -1))
    assert not decode_image(encoded(photo, "JPEG"), SPEC, subject="'x'").turned


def with_exif(photo: Image.Image, kind: str, exif: bytes) -> bytes:
    """Return a photo with EXIF metadata as they are, which Pillow's own writer would check."""
    if kind != "PNG":
        return encoded(photo, kind, exif=exif)
    data = encoded(photo, "PNG")
    chunk = b"eXIf" + exif
    return data[:33] + struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


# The orientation is read, and what follows it, a tag of 2**31 values, is not.
HALF_DAMAGED = b"MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x1a\0\x05\x80\0\0\0\0\0\0\x20"


@pytest.mark.parametrize("exif", [b"zzz", b"MM\0*", b"MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0", HALF_DAMAGED])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("as_stored", [True, False])
@pytest.mark.parametrize("fast", [True, False])
def test_damaged_metadata_costs_no_pixel(photo, kind, exif, as_stored, fast):
    data = with_exif(photo, kind, exif)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    spec = msgspec.structs.replace(SPEC, exif=not as_stored)

    decoded = decode_image(data, spec, subject="'x'", fast=fast)

    turned = not as_stored and decoded.turned
    assert np.array_equal(decoded.to_array(), np.rot90(expected, -1) if turned else expected)


def test_damaged_metadata_is_warned_about_once(photo):
    decoder = ImageDecoder(SPEC, None)
    decoded = decoder.decode(with_exif(photo, "PNG", b"zzz"), subject="photo")

    assert decoder.warnings[decoded.warning].startswith("EXIF metadata cannot be read and is ignored")
    assert not decoder.decode(encoded(photo, "PNG"), subject="photo").warning


def test_path_bytes_image_and_array_are_the_same_photo(photo, photos):
    expected = np.asarray(photo)
    for source in (str(photos["cat"]), photos["cat"], photos["cat"].read_bytes(), photo, expected):
        assert np.array_equal(np.asarray(decode(source)), expected)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "empty: expected an encoded image, got 0 bytes"),
        (b"not an image at all", r"not an image: expected one of JPEG, PNG, .* got bytes that start with b'not an i'"),
        (b"%PDF-1.7 pretends", "not an image: .* got a PDF file. Draw its pages as PNG first"),
        (b"\n<!DOCTYPE HTML>", "got a web page, .* Download the image itself"),
        (b"/9j/4AAQSkZJRg", "got an image as base64 text. Decode it first"),
        (b"version https://git-lfs.github.com/spec/v1", "'git lfs pull'"),
        (b"\0\0\0\x18ftypheic", "got HEIC, AVIF or a video. Convert it"),
        ("no/such/photo.jpg", "no such file"),
        (".", "is a folder: expected a file"),
        (17, "not an image: expected a path, bytes, a PIL image or a uint8 array, got int"),
        (np.zeros((4, 4, 3), dtype=np.float32), r"expected uint8 \[height, width, 3\] in RGB order, got float32"),
        (np.zeros((4, 4), dtype=np.uint8), r"got uint8 \[4, 4\]"),
        (np.zeros((2, 4, 4, 3), dtype=np.uint8), "pass a batch as a list"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"got uint8 \[0, 4, 3\]"),
    ],
)
def test_what_is_no_image_is_refused_with_what_it_is(source, reason):
    with pytest.raises(runtime.InputError, match=reason):
        decode(source)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_a_truncated_file_is_refused_wherever_it_ends(photo, kind, share):
    data = encoded(photo, kind)

    with pytest.raises(runtime.InputError, match="'x': "):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
@pytest.mark.parametrize("fast", [True, False])
def test_a_truncated_file_is_pillows_where_training_took_it(photo, kind, fast, monkeypatch):
    data = encoded(photo, kind)[:-2000]
    decoder = ImageDecoder(msgspec.structs.replace(SPEC, truncated=True), None, fast=fast)

    decoded = decoder.decode(data, subject="photo")

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert np.array_equal(decoded.to_array(), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert decoder.warnings[decoded.warning].startswith("the file ends too early")
    assert not decoder.decode(encoded(photo, kind), subject="photo").warning


def test_a_processs_own_choice_about_truncated_files_stays_and_changes_no_artifacts(photo, monkeypatch):
    data = encoded(photo, "JPEG")[:-2000]
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)

    with pytest.raises(runtime.InputError, match="damaged image: image file is truncated"):
        decode(data)
    assert np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).any()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(data)).load()


def test_threads_of_models_with_another_choice_keep_theirs(photo):
    data = encoded(photo, "PNG")[:-2000]
    takes = ImageDecoder(msgspec.structs.replace(SPEC, truncated=True), None)
    refuses = ImageDecoder(SPEC, None)

    def refused(decoder: ImageDecoder) -> bool:
        try:
            decoder.decode(data, subject="photo")
        except runtime.InputError:
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(refused, [takes, refuses] * 50))

    assert results == [False, True] * 50


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few kB that decodes to ``width`` x ``height`` black pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compressor = zlib.compressobj(9)
    rows = b"".join(compressor.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(13_000, 13_000), (8_001, 8_000), (20_000, 20_000)])
def test_a_giant_image_is_refused_before_it_is_decoded(size):
    data = png_of(*size)
    tracemalloc.start()
    try:
        with pytest.raises(runtime.InputError, match="too large"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_limit_above_pillows_own_is_the_users(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    small, large = (ImageDecoder(SPEC, None, max_pixels=limit) for limit in (64, 400))
    data = png_of(20, 20)

    assert large.decode(data, subject="photo").to_array().shape == (20, 20, 3)
    with pytest.raises(runtime.InputError, match=r"expected at most 6\.4e-05 megapixels, got 20 x 20"):
        small.decode(data, subject="photo")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(photo, kind):
    frames = [photo.resize((40, 30)).rotate(90 * turn) for turn in range(3)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3

    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    assert np.array_equal(np.asarray(decode(data)), expected)
    assert np.abs(expected.astype(int) - np.asarray(frames[0])).mean() < 20


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    "geometry",
    [
        (Resize(size=40, interpolation="bicubic", axis_order="larger_cut_first"), CenterCrop(height=32, width=32)),
        (Resize(size=(32, 32), interpolation="bilinear", axis_order="horizontal_first"),),
        (
            Resize(size=(30, 30), interpolation="bilinear", axis_order="horizontal_first"),
            CenterCrop(height=32, width=32),
        ),
        (CenterCrop(height=32, width=32),),
    ],
)
def test_photos_of_a_batch_are_prepared_where_the_batch_takes_them_from(photos, fast, geometry):
    preprocessing = Preprocessing(geometry=geometry, arithmetic=(), height=32, width=32, channels=3)
    decoder = ImageDecoder(msgspec.structs.replace(SPEC, preprocessing=preprocessing), None, fast=fast)
    sources = [photos[name] for name in ("cat", "rocket", "coffee")]
    alone = [decoder.prepare(decoder.decode(source, subject="'x'")) for source in sources]

    slots = decoder.slots(4)
    together = [
        decoder.prepare_into(decoder.decode(source, subject="'x'"), slots[index])
        for index, source in enumerate(sources)
    ]
    (batch,) = decoder.stack(together).values()

    assert np.array_equal(batch, np.stack(alone))
    assert all(np.shares_memory(photo, slot) for photo, slot in zip(batch, slots, strict=False))


def test_images_of_different_sizes_have_no_slots():
    preprocessing = msgspec.structs.replace(PREPROCESSING, height=None)
    decoder = ImageDecoder(msgspec.structs.replace(SPEC, preprocessing=preprocessing), None)

    assert list(decoder.slots(2)) == [None, None]
