"""Image files of countless parts are refused before Pillow goes through them; ordinary ones are not."""

import io
import time
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from support.hostile_photos import KINDS, write_photos
from support.slow_photos import slow_photos

from runtime.errors import InputError
from runtime.inputs.image.structure import check_structure


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in slow_photos(2**20)])
def test_countless_parts_are_refused_in_no_time(data):
    """31 MB of such parts kept a worker for up to a minute, past the deadline, and took 1.1 GB."""
    started = time.thread_time()

    with pytest.raises(InputError, match=r"too many|too large"):
        check_structure(data, "'x'")
    assert time.thread_time() - started < 0.5


def test_files_that_are_no_images_are_left_to_pillow():
    for start in (b"PK\x03\x04", b"P", b"\xff\xd8", b"GIF8", b"II", b"MM", b"BM", b"RIFF", b"\x89PNG\r\n\x1a\n", b""):
        for rest in (b"", b"\1" * 9, b"\xff\xda", bytes(20)):
            check_structure(start + rest, "'x'")
    check_structure(b"PK\x03\x04" + bytes(10_000), "'x'")


def test_photos_of_all_kinds_pass(tmp_path):
    for path in write_photos(tmp_path / "photos", len(KINDS)):
        check_structure(path.read_bytes(), "'x'")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_a_file_that_ends_anywhere_does_not_break_the_check(form):
    """A JPEG that ended behind the length of its first scan did."""
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 17, 3), dtype=np.uint8))
    for options in ({}, {"progressive": True} if form == "JPEG" else {}):
        stream = io.BytesIO()
        photo.save(stream, form, **options)
        data = stream.getvalue()
        for length in range(len(data)):
            with suppress(InputError):
                check_structure(data[:length], "'x'")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_large_noise_passes(form):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8))
    for options in ({}, {"progressive": True} if form == "JPEG" else {"compress_level": 0} if form == "PNG" else {}):
        stream = io.BytesIO()
        noise.save(stream, form, **options)
        check_structure(stream.getvalue(), "'x'")
        check_structure(stream.getvalue() + b"\xff" * 100_000, "'x'")  # what cameras append, such as a film
