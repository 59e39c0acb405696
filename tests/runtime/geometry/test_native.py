"""With the native kernel the host's pixels are those of the Pillow path; without it, they are the same."""

import sys
import types
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from runtime.geometry import native, preparation
from runtime.manifest import CenterCrop, Grayscale, KeepRatio, Pad, Resize

needs_kernel = pytest.mark.skipif(
    native.find_kernel().module is None, reason="the native kernel is not built: scripts/setup builds it"
)

side = st.integers(1, 300)
fill = st.sampled_from([(0,), (7,), (1, 2, 250)])


def noise(height, width, channels=3):
    random = np.random.default_rng(height * 1000 + width)
    return random.integers(0, 256, (height, width, channels), dtype=np.uint8)


def to_image(pixels):
    return Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0])


@st.composite
def resizes(draw):
    size = draw(
        st.one_of(
            st.integers(1, 150),
            st.tuples(side, side),
            st.builds(
                KeepRatio,
                height=st.integers(1, 200),
                width=st.integers(1, 200),
                side=st.sampled_from(["inside", "outside"]),
                arithmetic=st.sampled_from(["divide", "multiply"]),
                enlarge=st.booleans(),
            ),
        )
    )
    implementation = draw(st.sampled_from(["pillow", "pillow", "torch", "opencv"]))
    filters = {
        "pillow": ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"],
        "torch": ["bilinear", "bicubic"],
        "opencv": ["bilinear", "nearest"],
    }[implementation]
    return Resize(
        size=size,
        interpolation=draw(st.sampled_from(filters)),
        axis_order=draw(st.sampled_from(["horizontal_first", "larger_cut_first"])),
        implementation=implementation,
        antialias=implementation != "opencv",
    )


@st.composite
def transforms(draw):
    channels = draw(st.sampled_from([1, 3]))
    fills = fill.filter(lambda values: len(values) in {1, channels})
    crops = st.builds(CenterCrop, height=side, width=side, rounding=st.sampled_from(["half_even", "down"]), fill=fills)
    pads = st.builds(
        Pad,
        left=st.integers(0, 9),
        top=st.integers(0, 9),
        right=st.integers(0, 9),
        bottom=st.integers(0, 9),
        mode=st.sampled_from(["constant", "edge"]),
        fill=fills,
    )
    grays = st.just(Grayscale(channels=channels))
    steps = draw(st.lists(st.one_of(resizes(), resizes(), crops, pads, grays), max_size=4))
    return channels, steps


@needs_kernel
@settings(deadline=None, max_examples=250)
@given(side, side, transforms())
def test_every_transform_gives_the_pillow_paths_pixels(height, width, transform):
    channels, steps = transform
    pixels = noise(height, width, channels)
    assume(height * width * len(steps) <= 100_000)
    sizes = [step.size for step in steps if isinstance(step, Resize) and isinstance(step.size, int)]
    assume(not sizes or max(height, width) / min(height, width) * max(sizes) <= 4000)  # the long side of a strip

    expected = preparation.prepare(to_image(pixels), steps)

    for source in (pixels, to_image(pixels)):
        prepared = native.prepare(source, steps)
        assert prepared.dtype == np.uint8
        assert np.array_equal(prepared, expected)


CLASSIC = (
    Resize(size=256, interpolation="bicubic", axis_order="larger_cut_first"),
    CenterCrop(height=224, width=224),
)


@needs_kernel
@pytest.mark.parametrize(("width", "height"), [(600, 400), (451, 300), (300, 451), (1, 60_000), (4000, 3000), (20, 30)])
def test_the_classic_transform_at_usual_and_unusual_sizes(width, height):
    pixels = noise(height, width)

    assert np.array_equal(native.prepare(pixels, CLASSIC), preparation.prepare(Image.fromarray(pixels), CLASSIC))


@needs_kernel
@pytest.mark.parametrize("steps", [(), (CenterCrop(height=30, width=40),), (CenterCrop(height=30, width=20),), CLASSIC])
def test_what_is_prepared_has_memory_of_its_own(steps):
    """A decoder's buffer, or a caller's array, may hold other pixels next."""
    pixels = noise(30, 40)
    prepared = native.prepare(pixels, steps)
    expected = prepared.copy()

    pixels[:] = 0

    assert np.array_equal(prepared, expected)


@needs_kernel
def test_sixteen_bits_and_many_channels_are_prepared_as_before():
    step = Resize(
        size=(20, 30), interpolation="bilinear", axis_order="horizontal_first", implementation="torch", antialias=True
    )
    many = np.random.default_rng(0).integers(0, 256, (50, 60, 7), dtype=np.uint8)
    deep = np.random.default_rng(0).integers(0, 65536, (50, 60, 3), dtype=np.uint16)

    assert np.array_equal(native.prepare(many, [step]), preparation.prepare(many, [step]))
    assert np.array_equal(native.prepare(many[:, :, :4], [step]), preparation.prepare(many, [step])[:, :, :4])
    cropped = native.prepare(deep, [CenterCrop(height=9, width=8)])
    assert cropped.dtype == np.uint16
    assert np.array_equal(cropped, preparation.prepare(deep, [CenterCrop(height=9, width=8)]))


@pytest.fixture
def unknown(monkeypatch):
    """A process that has not looked for the kernel yet."""
    monkeypatch.setattr(native, "_kernel", None)


def faulty(real, **changes):
    """Return a module as the kernel's, with one function that is wrong."""
    module = types.ModuleType("truecopy_kernels")
    vars(module).update({name: getattr(real, name) for name in ("__version__", "best_path", "resize", "to_gray")})
    vars(module).update(changes)
    return module


def off_by_one(real):
    def resize(*arguments, **options):
        pixels = real(*arguments, **options)
        pixels[-1, -1, -1] ^= 1
        return pixels

    return resize


def only_when(real, changed, condition):
    def resize(pixels, size, interpolation, **options):
        chosen = changed if condition(interpolation, options) else real
        return chosen(pixels, size, interpolation, **options)

    return resize


def broken(*_, **__):
    raise OSError("no such function")


@needs_kernel
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda real: {"resize": off_by_one(real.resize)}, "other pixels than Pillow's with nearest"),
        (
            lambda real: {
                "resize": only_when(real.resize, off_by_one(real.resize), lambda name, options: options["rows_first"])
            },
            "other pixels than Pillow's with nearest to 17 x 45",
        ),
        (
            lambda real: {
                "resize": only_when(
                    real.resize, off_by_one(real.resize), lambda name, options: options["arithmetic"] == "torch"
                )
            },
            "other pixels than torch's",
        ),
        (
            lambda real: {
                "resize": only_when(real.resize, off_by_one(real.resize), lambda name, options: name == "lanczos")
            },
            "other pixels than Pillow's with lanczos",
        ),
        (lambda real: {"to_gray": lambda pixels: real.to_gray(pixels) ^ 1}, "other gray"),
        (lambda real: {"resize": broken}, "OSError: no such function"),
    ],
)
def test_a_kernel_that_fails_its_self_check_is_off_with_one_warning(unknown, monkeypatch, change, reason):
    import truecopy_kernels as real

    monkeypatch.setitem(sys.modules, "truecopy_kernels", faulty(real, **change(real)))
    pixels = noise(300, 400)

    with pytest.warns(RuntimeWarning, match=f"failed its self-check: {reason}"):
        prepared = native.prepare(Image.fromarray(pixels), CLASSIC)

    assert np.array_equal(prepared, preparation.prepare(Image.fromarray(pixels), CLASSIC))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        native.prepare(Image.fromarray(pixels), CLASSIC)
    assert reason in native.find_kernel().reason
    assert native.find_kernel().module is None


def test_without_the_kernel_pillow_gives_the_pixels_and_nothing_is_said(unknown, monkeypatch):
    monkeypatch.setitem(sys.modules, "truecopy_kernels", None)
    image = Image.fromarray(noise(300, 400))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared = native.prepare(image, CLASSIC)

    assert np.array_equal(prepared, preparation.prepare(image, CLASSIC))
    assert np.array_equal(native.prepare(np.asarray(image), CLASSIC), prepared)
    assert native.find_kernel().reason == "not installed: pip install 'truecopy[fast]'"
    assert np.array_equal(native.to_gray(np.asarray(image))[:, :, 0], np.asarray(image.convert("L")))


def test_a_kernel_that_cannot_be_loaded_is_off_with_a_warning(unknown, monkeypatch, tmp_path):
    package = tmp_path / "truecopy_kernels"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libtruecopy: invalid ELF header')")
    monkeypatch.delitem(sys.modules, "truecopy_kernels", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.warns(RuntimeWarning, match="cannot be loaded: libtruecopy: invalid ELF header"):
        assert native.find_kernel().module is None
