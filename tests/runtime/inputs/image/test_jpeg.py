"""JPEGs are Pillow's to the last bit: pixels, EXIF and refusals; what is not proven is left to Pillow."""

import io
import re
import shutil
import subprocess
import sys
import types
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image, _imaging
from support.commands import run_script
from support.jpeg_cases import (
    SPECS,
    Jpeg,
    difference,
    is_fast,
    photo_like,
    random_jpeg,
    split_segments,
    window_difference,
)

import runtime
from runtime.geometry import native
from runtime.geometry.arrays import Part
from runtime.inputs.image import jpeg
from runtime.inputs.image.decoder import ImageDecoder, decode_image
from runtime.inputs.image.jpeg_frame import read_frame
from runtime.manifest import CenterCrop, Preprocessing, Resize

simplejpeg = pytest.importorskip("simplejpeg", reason="simplejpeg is not installed: pip install simplejpeg")

ROOT = Path(__file__).parents[4]

needs_kernel = pytest.mark.skipif(
    native.find_kernel().module is None, reason="the native kernel is not built: scripts/setup builds it"
)


@pytest.fixture(scope="module")
def photo():
    return photo_like(np.random.default_rng(4), 75, 53)


def encoded(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def decode(data, mode="RGB"):
    frame = read_frame(data)
    part = None if frame is None else jpeg.decode_jpeg(data, frame, mode)
    return None if part is None else part.pixels


def pillow_pixels(data, mode="RGB"):
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


def test_every_made_jpeg_is_decoded_fast_and_as_pillow_does():
    jpegs = jpeg.make_jpegs()

    assert len(jpegs) > 15
    for name, data in jpegs:
        assert np.array_equal(decode(data), pillow_pixels(data)), name
        assert np.array_equal(decode(data, "L")[:, :, 0], pillow_pixels(data, "L")), name


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_any_window_has_the_pixels_of_its_place_in_the_whole_or_is_damaged_as_that(mode):
    random = np.random.default_rng(5)
    jpegs = [Jpeg(name=name, data=data) for name, data in jpeg.make_jpegs()]
    jpegs += [made for made in (random_jpeg(random) for _ in range(200)) if is_fast(made)]

    assert len(jpegs) > 100
    assert sum(decode(each.data) is None for each in jpegs) > 10
    for each in jpegs:
        for _ in range(20):
            assert not window_difference(random, each, mode), each.name


@needs_kernel
def test_only_the_window_is_written():
    """Rows are written where they belong: not a byte in front of, between or behind them."""
    kernel = native.find_kernel().module
    library = kernel.LibJpeg(_imaging.__file__)
    for _, data in jpeg.make_jpegs():
        frame = read_frame(data)
        size = (frame.height, frame.width)
        window = kernel.decoded_window(size, jpeg._inner_window(frame), frame.sampling[0])
        framed = np.full((window[2] + 2, window[3] + 2, 3), 165, np.uint8)

        assert library.decode(data, size, 3, window=window, out=framed[1:-1, 1:-1]) is not None

        framed[1:-1, 1:-1] = 165
        assert (framed == 165).all()


@pytest.mark.slow
@needs_kernel
@pytest.mark.skipif(shutil.which("cc") is None, reason="this machine has no C compiler")
def test_random_jpegs_and_windows_are_clean_under_the_sanitizers():
    run = subprocess.run(
        [ROOT / "scripts" / "jpeg-fuzz", "300", "2"], capture_output=True, text=True, check=False, timeout=300
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.rstrip().endswith("0 unequal")
    assert "Pillow's own" in run.stdout


@needs_kernel
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"window": (0, 0, 54, 75)}, "a window"),
        ({"window": (-1, 0, 5, 5)}, "a window"),
        ({"window": (0, 3, 5, 5)}, "a window"),  # not the start of a block
        ({"size": (0, 203)}, "a size"),
        ({"size": (1 << 24, 203)}, "a size"),
        ({"channels": 2}, "a filter, a window or a number"),
        ({"out": np.zeros((3, 3, 3), np.uint8)}, "out: wrong array"),
        ({"data": b""}, "a size"),
    ],
)
def test_what_no_jpeg_has_is_refused_by_the_kernel(photo, change, problem):
    library = native.find_kernel().module.LibJpeg(_imaging.__file__)
    request = {"data": encoded(photo), "size": (53, 75), "channels": 3, "window": (0, 0, 5, 75), **change}

    with pytest.raises(ValueError, match=problem):
        library.decode(request.pop("data"), request.pop("size"), request.pop("channels"), **request)


@needs_kernel
def test_a_jpeg_of_another_size_or_of_colors_is_not_decoded_as_what_it_is_not(photo):
    library = native.find_kernel().module.LibJpeg(_imaging.__file__)
    data = encoded(photo)

    assert library.decode(data, (53, 75), 3, window=(0, 0, 53, 75)) is not None
    assert library.decode(data, (54, 75), 3, window=(0, 0, 53, 75)) is None
    assert library.decode(data, (53, 75), 1, window=(0, 0, 53, 75)) is None


@needs_kernel
def test_damage_outside_the_window_is_found(photo):
    """Pillow refuses a photo whose last rows are missing, or fills them, whatever a crop drops of it."""
    library = native.find_kernel().module.LibJpeg(_imaging.__file__)
    data = bytearray(encoded(photo, quality=95))
    middle = len(data) - 300
    data[middle : middle + 2] = b"\xff\xd9"

    assert library.decode(bytes(data), (53, 75), 3, window=(0, 0, 5, 75)) is None


@needs_kernel
def test_a_library_without_a_libjpeg_is_refused():
    kernel = native.find_kernel().module

    with pytest.raises(ImportError, match="has no function jpeg_std_error"):
        kernel.LibJpeg(Path(kernel.__file__).with_name("_kernels.so"))


@pytest.mark.slow
def test_five_hundred_random_jpegs_half_of_them_hostile_have_no_other_outcome():
    run = run_script("comparisons.jpegs", "--jpegs", "500", "--seed", "3")

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.rstrip().endswith("0 unequal")


@pytest.mark.slow
@needs_kernel
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not say what is resident")
def test_a_photo_of_48_megapixels_takes_less_memory_than_its_pixels():
    run = run_script("benchmarks.prepare", "--part", "giant")

    assert run.returncode == 0, run.stdout + run.stderr
    times = re.search(r"fast: .*'times decoded': ([0-9.]+)", run.stdout)
    assert times, run.stdout
    assert 0.5 < float(times[1]) <= 0.75  # the crop keeps 0.57


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
        assert read_frame(lacking) is None
        assert not difference(Jpeg(name="lacking", data=lacking), "RGB")


def test_the_decoders_complaint_leaves_a_damaged_jpeg_to_pillow(photo):
    """A marker in the middle of the data: Pillow may give pixels, or refuse; both do the same."""
    data = bytearray(encoded(photo, quality=95))
    middle = len(data) - 300
    data[middle : middle + 2] = b"\xff\xd9"

    assert read_frame(bytes(data)) is not None
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


@needs_kernel
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

        assert isinstance(decoded.image, np.ndarray | Part)
        assert isinstance(slow.decode(data, subject="photo").image, Image.Image)
        assert np.array_equal(fast.prepare(decoded), slow.prepare(slow.decode(data, subject="photo")))

    @pytest.mark.parametrize("orientation", [None, 1, 6])
    def test_of_a_jpeg_only_what_the_crop_keeps_is_decoded_and_the_whole_is_there_on_demand(self, orientation):
        image = photo_like(np.random.default_rng(6), 400, 300)
        data = encoded(image) if orientation is None else rotated(image, orientation)
        fast, slow = self.decoders()

        decoded, expected = (decoder.decode(data, subject="photo") for decoder in (fast, slow))

        assert isinstance(decoded.image, Part)
        assert decoded.image.pixels.size < 0.65 * 400 * 300 * 3
        assert fast.lengths(decoded) == slow.lengths(expected) == {"height": 300, "width": 400}
        assert np.array_equal(fast.prepare(decoded), slow.prepare(expected))
        assert np.array_equal(decoded.to_array(), expected.to_array())
        assert all(
            np.array_equal(fast.raw_arrays(decoded)[name], slow.raw_arrays(expected)[name]) for name in ["image"]
        )

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


def without_shared(monkeypatch):
    """Leave a process as where Pillow's libjpeg is a part of Pillow."""

    def find():
        raise ImportError("'_imaging.pyd': has no function jpeg_std_error: its libjpeg is not shared.")

    monkeypatch.setattr(jpeg, "_DECODERS", {**jpeg._DECODERS, "Pillow's libjpeg": find})


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
    without_shared(monkeypatch)
    monkeypatch.setitem(sys.modules, "simplejpeg", faulty(decode_jpeg))
    data = encoded(photo)

    with pytest.warns(RuntimeWarning, match=f"failed its self-check: {reason}"):
        decoded = decode_image(data, SPECS["RGB"], subject="photo", fast=True)

    assert np.array_equal(decoded.to_array(), pillow_pixels(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data) is None
    assert reason in jpeg.find_jpeg_decoder().reason


@needs_kernel
@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (lambda shared: lambda *request: moved(shared(*request)), "other pixels than Pillow's for baseline 4:4:4"),
        (lambda shared: lambda *_: None, "it does not decode baseline 4:4:4"),
    ],
)
def test_where_pillows_libjpeg_fails_its_self_check_simplejpeg_decodes(unknown, monkeypatch, photo, plant, reason):
    name, shared = jpeg._find_shared()
    monkeypatch.setattr(jpeg, "_DECODERS", {**jpeg._DECODERS, "Pillow's libjpeg": lambda: (name, plant(shared))})
    data = encoded(photo)

    with pytest.warns(RuntimeWarning, match=f"failed its self-check: {reason}"):
        decoder = jpeg.find_jpeg_decoder()

    assert decoder.name.startswith("simplejpeg")
    assert reason in decoder.reason
    assert np.array_equal(decode(data), pillow_pixels(data))


def moved(part):
    """Return a window that starts a column too early, and whole photos as they are."""
    return part if part.is_whole else msgspec.structs.replace(part, left=part.left - 1)


@needs_kernel
def test_without_simplejpeg_kinds_that_pillow_cannot_write_are_left_to_pillow(unknown, monkeypatch, photo):
    rare = simplejpeg.encode_jpeg(np.asarray(photo), colorsubsampling="440")
    monkeypatch.setitem(sys.modules, "simplejpeg", None)

    assert np.array_equal(decode(encoded(photo)), pillow_pixels(encoded(photo)))
    assert read_frame(rare) is not None
    assert decode(rare) is None


def test_without_any_decoder_pillow_decodes_and_nothing_is_said(unknown, monkeypatch, photo):
    without_shared(monkeypatch)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    data = encoded(photo)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = decode_image(data, SPECS["RGB"], subject="photo", fast=True)

    assert np.array_equal(decoded.to_array(), pillow_pixels(data))
    assert jpeg.find_jpeg_decoder().reason.endswith("simplejpeg: not installed: pip install 'truecopy[fast]'")
    assert "its libjpeg is not shared" in jpeg.find_jpeg_decoder().reason
