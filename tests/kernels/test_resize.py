"""The native kernel's pixels are Pillow's and torch's, on every path, and what it cannot do it refuses."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.commands import run_script
from support.kernel_cases import PILLOW_FILTERS, TORCH_FILTERS, expected_pixels, make_case, needed_part

kernels = pytest.importorskip("truecopy_kernels", reason="the native kernel is not built: scripts/setup builds it")

ROOT = Path(__file__).parents[2]
PATHS = kernels.available_paths()

side = st.one_of(st.integers(1, 40), st.integers(1, 400), st.integers(1, 5000))


def resize(case, path="auto", pixels=None, **options):
    return kernels.resize(
        case.pixels if pixels is None else pixels,
        case.size,
        case.interpolation,
        window=case.window,
        rows_first=case.rows_first,
        arithmetic=case.arithmetic,
        path=path,
        **options,
    )


@st.composite
def cases(draw, arithmetic):
    sides = (draw(side), draw(side), draw(side), draw(side))
    height, width, to_height, to_width = sides
    assume(max(height, to_height) * max(width, to_width) <= 400_000)
    rows, columns = draw(st.integers(1, to_height)), draw(st.integers(1, to_width))
    return make_case(
        np.random.default_rng(draw(st.integers(0, 1000))),
        sides=sides,
        channels=draw(st.integers(1, 4)),
        gap=draw(st.integers(0, 3)),
        backwards=draw(st.booleans()),
        window=(draw(st.integers(0, to_height - rows)), draw(st.integers(0, to_width - columns)), rows, columns),
        interpolation=draw(st.sampled_from(TORCH_FILTERS if arithmetic == "torch" else PILLOW_FILTERS)),
        arithmetic=arithmetic,
        rows_first=arithmetic == "pillow" and draw(st.booleans()),
    )


@settings(deadline=None, max_examples=150)
@given(cases("pillow"))
def test_pixels_are_pillows_in_both_orders_of_the_passes(case):
    for path in PATHS:
        assert np.array_equal(resize(case, path), expected_pixels(case)), path


@settings(deadline=None, max_examples=100)
@given(cases("torch"))
def test_pixels_are_torchs_of_uint8_tensors(case):
    for path in PATHS:
        assert np.array_equal(resize(case, path), expected_pixels(case)), path


@settings(deadline=None, max_examples=150)
@given(st.one_of(cases("pillow"), cases("torch")))
def test_the_part_that_a_window_is_computed_from_is_enough(case):
    part, part_of = needed_part(case)
    alone = part.copy()  # behind whose end there is nothing of the image

    for path in PATHS:
        assert np.array_equal(resize(case, path, alone, part_of=part_of), expected_pixels(case)), path


@pytest.mark.parametrize("interpolation", PILLOW_FILTERS)
@pytest.mark.parametrize("cut", ["first row", "last row", "first column", "last column"])
def test_a_part_that_lacks_a_pixel_of_what_is_needed_is_refused(interpolation, cut):
    pixels = np.zeros((8, 9, 3), np.uint8)
    part, top, left = {
        "first row": (pixels[1:], 1, 0),
        "last row": (pixels[:-1], 0, 0),
        "first column": (pixels[:, 1:], 0, 1),
        "last column": (pixels[:, :-1], 0, 0),
    }[cut]

    for size in ((30, 20), (8, 20), (30, 9), (8, 9)):
        with pytest.raises(ValueError, match="a window"):
            kernels.resize(part, size, interpolation, part_of=(8, 9, top, left))


@pytest.mark.slow
def test_a_thousand_random_cases_are_equal():
    run = run_script("comparisons.kernel", "--cases", "1000")

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.rstrip().endswith("0 unequal")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="this machine has no C compiler")
def test_random_requests_are_clean_under_the_sanitizers():
    run = subprocess.run(
        [ROOT / "scripts" / "kernel-fuzz", "10", "1"], capture_output=True, text=True, check=False, timeout=300
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "no fault" in run.stdout


def test_one_wrong_weight_would_show():
    """Otherwise equality would prove little: another filter's weights, or the other order, give other pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (700, 290, 3), dtype=np.uint8)
    bicubic, lanczos = (kernels.resize(pixels, (256, 106), name) for name in ("bicubic", "lanczos"))
    rows_first = kernels.resize(pixels, (256, 106), "bicubic", rows_first=True)
    as_torch = kernels.resize(pixels, (256, 106), "bicubic", arithmetic="torch")

    for other in (lanczos, rows_first, as_torch):
        assert np.abs(bicubic.astype(int) - other).max() > 0


def test_the_result_is_written_into_an_array_with_its_own_stride():
    pixels = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    frame = np.full((50, 70, 3), 9, np.uint8)

    result = kernels.resize(pixels, (30, 40), "bicubic", out=frame[10:40, 20:60])

    assert np.array_equal(frame[10:40, 20:60], kernels.resize(pixels, (30, 40), "bicubic"))
    assert np.shares_memory(result, frame)
    frame[10:40, 20:60] = 9
    assert (frame == 9).all()


def test_gray_is_pillows():
    pixels = np.random.default_rng(2).integers(0, 256, (300, 401, 3), dtype=np.uint8)

    for source in (pixels, pixels[::-1], pixels[:, 1:]):
        expected = Image.fromarray(np.ascontiguousarray(source)).convert("L")
        assert np.array_equal(kernels.to_gray(source)[:, :, 0], np.asarray(expected))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"size": (0, 5)}, "window: outside the image"),
        ({"size": (1 << 24, 5), "window": (0, 0, 1, 1)}, "a size or a stride out of range"),
        ({"window": (0, 0, 31, 5)}, "window: outside the image"),
        ({"window": (-1, 0, 5, 5)}, "a window"),
        ({"window": (26, 0, 5, 5)}, "a window"),
        ({"pixels": np.zeros((5, 5, 3), np.float32)}, "expected uint8"),
        ({"pixels": np.zeros((5, 5), np.uint8)}, "expected uint8"),
        ({"pixels": np.zeros((0, 5, 3), np.uint8)}, "expected uint8"),
        ({"pixels": np.zeros((5, 5, 5), np.uint8)}, "1 to 4 channels"),
        ({"pixels": np.zeros((5, 10, 3), np.uint8)[:, ::2]}, "next to each other"),
        ({"pixels": np.zeros((5, 5, 3), np.uint8)[:, :, ::-1]}, "next to each other"),
        ({"pixels": np.broadcast_to(np.zeros((1, 5, 3), np.uint8), (5, 5, 3))}, "stride"),
        ({"part_of": (8, 9, 1, 0)}, "a window"),
        ({"part_of": (8, 9, 0, -1)}, "a window"),
        ({"part_of": (1 << 24, 9, 0, 0), "window": (0, 0, 1, 1)}, "a size or a stride out of range"),
        ({"out": np.zeros((3, 3, 3), np.uint8)}, "out: wrong array"),
        ({"interpolation": "lanczos", "arithmetic": "torch"}, "does not have"),
        ({"path": "neon" if "neon" not in PATHS else "avx2"}, "instructions that this processor does not have"),
    ],
)
def test_what_no_resize_has_is_refused(change, problem):
    options = {"pixels": np.zeros((8, 9, 3), np.uint8), "size": (30, 20), "interpolation": "bilinear", **change}

    with pytest.raises(ValueError, match=problem):
        kernels.resize(**options)


def test_threads_do_not_disturb_each_other():
    random = np.random.default_rng(3)
    photos = [random.integers(0, 256, (100 + 37 * index, 300 - 20 * index, 3), dtype=np.uint8) for index in range(8)]
    expected = [kernels.resize(photo, (64, 64), "bicubic") for photo in photos]
    wrong = []

    def work(index):
        results = (kernels.resize(photos[index], (64, 64), "bicubic") for _ in range(200))
        wrong.extend(index for result in results if not np.array_equal(result, expected[index]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say what is resident")
def test_scratch_memory_ends_with_its_thread():
    """Each call needs some 4 MB of it, so that 200 threads would leave 800 MB behind."""
    pixels = np.zeros((3000, 1, 4), np.uint8)

    def work():
        kernels.resize(pixels, (1, 200_000), "bicubic", window=(0, 0, 1, 50_000), rows_first=True)

    sizes = []
    for _ in range(200):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        sizes.append(resident_bytes())

    assert sizes[-1] - sizes[20] < 100 * 2**20
