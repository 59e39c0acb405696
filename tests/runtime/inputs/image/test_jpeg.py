"""JPEGs are Pillow's to the last bit: pixels, EXIF and refusals; what is not proven is left to Pillow."""

import io
import re
import sys
import types
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from support.commands import run_script
from support.jpeg_cases import SPECS, Jpeg, difference, is_fast, photo_like, split_segments

import runtime
from runtime.geometry import native
from runtime.inputs.image import jpeg
from runtime.inputs.image.decoder import ImageDecoder, decode_image
from runtime.manifest import CenterCrop, Preprocessing, Resize

simplejpeg = pytest.importorskip("simplejpeg", reason="simplejpeg is not installed: pip install simplejpeg")

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def photo():
    return photo_like(np.random.default_rng(4), 75, 53)


def encoded(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def decode(data, mode="RGB"):
    frame = jpeg.read_frame(data)
    return None if frame is None else jpeg.decode_jpeg(data, frame, mode)


def pillow_pixels(data, mode="RGB"):
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


def test_every_made_jpeg_is_decoded_fast_and_as_pillow_does():
    jpegs = jpeg.make_jpegs(simplejpeg)

    assert len(jpegs) > 15
    for name, data in jpegs:
        assert np.array_equal(decode(data), pillow_pixels(data)), name
        assert np.array_equal(decode(data, "L")[:, :, 0], pillow_pixels(data, "L")), name


@pytest.mark.slow
def test_five_hundred_random_jpegs_half_of_them_hostile_have_no_other_outcome():
    run = run_script("comparisons.jpegs", "--jpegs", "500", "--seed", "3")

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.rstrip().endswith("0 unequal")


@pytest.mark.slow
@pytest.mark.skipif(
    native.find_kernel().module is None, reason="the native kernel is not built: scripts/setup builds it"
)
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not say what is resident")
def test_a_photo_of_48_megapixels_takes_little_more_memory_than_its_pixels():
    run = run_script("benchmarks.prepare", "--part", "giant")

    assert run.returncode == 0, run.stdout + run.stderr
    times = re.search(r"fast: .*'times decoded': ([0-9.]+)", run.stdout)
    assert times, run.stdout
    assert 0.9 < float(times[1]) <= 1.15


def with_segment(data, segment):
    segments, rest = split_segments(data)
    return b"\xff\xd8" + segment + b"".join(segments) + rest


def frame_changed(data, offset, value):
    changed = bytearray(data)
    changed[data.find(b"\xff\xc0") + offset] = value
    return bytes(changed)


@pytest.mark.parametrize(
    "make",
    [
        lambda photo: encoded(photo.convert("CMYK")),
        lambda photo: encoded(photo, keep_rgb=True, subsampling=0),  # Adobe's marker, and RGB inside
        lambda photo: with_segment(encoded(photo), b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"),
        lambda photo: with_segment(encoded(photo), b"\xff\xe2\x00\x08MPF\0MM"),
        lambda photo: with_segment(encoded(photo), b"\xff\xcc\x00\x04\x00\x05"),  # arithmetic conditioning
        lambda photo: frame_changed(encoded(photo), 1, 0xC1),  # extended sequential
        lambda photo: frame_changed(encoded(photo), 1, 0xC9),  # arithmetic
        lambda photo: frame_changed(encoded(photo), 4, 12),  # bits
        lambda photo: frame_changed(encoded(photo), 11, 0x31),  # a sampling of three
        lambda photo: frame_changed(encoded(photo), 14, 0x21),  # chroma sampled as luma is not
        lambda photo: encoded(photo) + b"\0",
        lambda photo: encoded(photo)[:-2],
        lambda photo: encoded(photo)[:-200],
        lambda photo: b"\0" + encoded(photo),
        lambda photo: with_segment(encoded(photo), b"\xff\xff"),  # fill bytes
        lambda photo: encoded(photo)[:300] + b"\xff\xd9",
    ],
)
def test_what_is_not_proven_is_left_to_pillow(photo, make):
    data = make(photo)

    assert decode(data) is None
    for mode in SPECS:
        assert not difference(Jpeg(name="photo", data=data), mode)


def test_a_progressive_jpeg_without_one_of_its_scans_is_left_to_pillow(photo):
    """Each version of libjpeg smooths over what is missing in its own way."""
    data = encoded(photo, progressive=True)
    starts = [position for position in range(len(data)) if data.startswith(b"\xff\xda", position)]
    assert is_fast(Jpeg(name="whole", data=data))
    assert len(starts) > 5

    for start, end in zip(starts, [*starts[1:], len(data) - 2], strict=True):
        lacking = data[:start] + data[end:]
        assert jpeg.read_frame(lacking) is None
        assert not difference(Jpeg(name="lacking", data=lacking), "RGB")


def test_the_decoders_complaint_leaves_a_damaged_jpeg_to_pillow(photo):
    """A marker in the middle of the data: Pillow may give pixels, or refuse; both do the same."""
    data = bytearray(encoded(photo, quality=95))
    middle = len(data) - 300
    data[middle : middle + 2] = b"\xff\xd9"

    assert jpeg.read_frame(bytes(data)) is not None
    assert decode(bytes(data)) is None
    assert not difference(Jpeg(name="damaged", data=bytes(data)), "RGB")


def rotated(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo, exif=exif)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("exif", [False, True])
def test_exif_counts_as_before(photo, orientation, exif):
    spec = msgspec.structs.replace(SPECS["RGB"], exif=exif)
    data = rotated(photo, orientation)

    expected, got = (decode_image(data, spec, subject="photo", fast=fast) for fast in (False, True))

    assert got.turned == expected.turned == (orientation not in {0, 1})
    assert np.array_equal(got.to_array(), expected.to_array())


@pytest.mark.skipif(
    native.find_kernel().module is None, reason="the native kernel is not built: scripts/setup builds it"
)
class TestDecoder:
    STEPS = (
        Resize(size=40, interpolation="bicubic", axis_order="larger_cut_first"),
        CenterCrop(height=32, width=32),
    )

    def decoders(self, mode="RGB", **options):
        preprocessing = Preprocessing(geometry=self.STEPS, arithmetic=(), height=32, width=32, channels=3)
        spec = msgspec.structs.replace(SPECS[mode], preprocessing=preprocessing)
        return [ImageDecoder(spec, None, fast=fast, **options) for fast in (True, False)]

    def test_a_jpeg_never_becomes_a_pil_image(self, photo):
        fast, slow = self.decoders()
        data = encoded(photo)

        decoded = fast.decode(data, subject="photo")

        assert isinstance(decoded.image, np.ndarray)
        assert isinstance(slow.decode(data, subject="photo").image, Image.Image)
        assert np.array_equal(fast.prepare(decoded), slow.prepare(slow.decode(data, subject="photo")))

    @pytest.mark.parametrize("mode", ["RGB", "L"])
    @pytest.mark.parametrize("form", ["jpeg", "png", "image", "array"])
    def test_every_form_of_a_photo_is_prepared_as_by_pillow(self, photo, mode, form):
        image = photo.convert(mode)
        png = io.BytesIO()
        image.save(png, "PNG")
        source = {"jpeg": encoded(image), "png": png.getvalue(), "image": image, "array": np.asarray(image)}[form]
        fast, slow = self.decoders(mode)

        prepared = [decoder.prepare(decoder.decode(source, subject="photo")) for decoder in (fast, slow)]

        assert np.array_equal(*prepared)
        assert prepared[0].shape == (32, 32, 3 if mode == "RGB" else 1)

    def test_a_photo_that_is_kept_does_not_change_when_the_next_is_decoded(self, photo):
        fast, _ = self.decoders()
        first = fast.decode(encoded(photo), subject="first")
        expected = first.to_array().copy()

        fast.decode(encoded(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), subject="second")

        assert np.array_equal(first.to_array(), expected)

    def test_a_giant_jpeg_is_refused_before_it_is_decoded(self, photo):
        messages = []
        for decoder in self.decoders(max_pixels=75 * 53 - 1):
            with pytest.raises(runtime.InputError) as raised:
                decoder.decode(encoded(photo), subject="photo")
            messages.append(str(raised.value))

        assert messages[0] == messages[1]
        assert "too large" in messages[0]

    def test_pillows_own_limit_holds_as_before(self, photo, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        messages = []
        for decoder in self.decoders(max_pixels=2000):
            with pytest.raises(runtime.InputError) as raised:
                decoder.decode(encoded(photo), subject="photo")
            messages.append(str(raised.value))

        assert messages[0] == messages[1]
        assert "too large" in messages[0]

    def test_a_rotation_that_is_not_applied_is_remarked_on(self, photo):
        for decoder in self.decoders():
            assert decoder.decode(rotated(photo, 6), subject="photo").warning == "rotated"
            assert not decoder.decode(rotated(photo, 1), subject="photo").warning


@pytest.fixture
def unknown(monkeypatch):
    """A process that has not looked for the decoder yet."""
    monkeypatch.setattr(jpeg, "_decoder", None)


def faulty(decode_jpeg):
    """Return a module as simplejpeg, with another function to decode."""
    module = types.ModuleType("simplejpeg")
    vars(module).update(decode_jpeg=decode_jpeg, encode_jpeg=simplejpeg.encode_jpeg, __version__=simplejpeg.__version__)
    return module


def coarse(data, colorspace, **options):
    """Chroma as the fastest of libjpeg's ways has it: off by a few levels."""
    return simplejpeg.decode_jpeg(data, colorspace, fastupsample=True, **options)


def refusing(*_, **__):
    raise ValueError("no such kind")


def unlike(*_):
    raise TypeError("decode_jpeg() takes 2 positional arguments")


@pytest.mark.parametrize(
    ("decode_jpeg", "reason"),
    [
        (coarse, "other pixels than Pillow's for baseline 4:2:2"),
        (refusing, "it does not decode baseline 4:4:4"),
        (unlike, "TypeError: "),
    ],
)
def test_a_decoder_that_fails_its_self_check_is_off_with_one_warning(unknown, monkeypatch, photo, decode_jpeg, reason):
    monkeypatch.setitem(sys.modules, "simplejpeg", faulty(decode_jpeg))
    data = encoded(photo)

    with pytest.warns(RuntimeWarning, match=f"failed its self-check: {reason}"):
        decoded = decode_image(data, SPECS["RGB"], subject="photo", fast=True)

    assert np.array_equal(decoded.to_array(), pillow_pixels(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data) is None
    assert reason in jpeg.find_jpeg_decoder().reason


def test_without_simplejpeg_pillow_decodes_and_nothing_is_said(unknown, monkeypatch, photo):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    data = encoded(photo)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = decode_image(data, SPECS["RGB"], subject="photo", fast=True)

    assert np.array_equal(decoded.to_array(), pillow_pixels(data))
    assert jpeg.find_jpeg_decoder().reason == "not installed: pip install 'truecopy[fast]'"
