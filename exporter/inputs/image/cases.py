"""Test images of the parity check: real photos, and odd ones made of them."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps

from exporter.errors import ParityError, PreprocessingError, first_line, line_of
from exporter.parity.cases import PHOTOS, SAMPLES, Case
from runtime.errors import InputError, listed
from runtime.inputs.decoder import read_source
from runtime.inputs.image.decoder import decode_image
from runtime.manifest import ImageInput, Preprocessing

_PHOTOS = ("chelsea", "coffee", "rocket", "astronaut")

# More of the user's own photos than this adds minutes and no new kind of fault.
_MAX_SAMPLES = 24

# (height, width) of made images. At 427 x 640 the long side is 383.7 (truncated or rounded?) and the crop starts at
# 79.5 (half to even?). The tall one is cut to less than half, where Pillow 13 resizes its rows first.
_ODD = {
    "rounding": (427, 640),
    "portrait": (397, 301),
    "wide": (160, 613),
    "tall": (701, 290),
    "tiny": (13, 17),
    "odd sides": (257, 255),
}

# Sides as long as those of a photo of 20 megapixels, for a tenth of the work: geometry resizes one side at a time.
_LONG = {"long": (300, 5000), "high": (5000, 300)}

_BATCH_IMAGE = (240, 320)

_NOISE_NAMES = ("noise, seed 0", "noise, seed 1")
_NOISE_SIZE = (277, 353)

# Decoding alone, as the loaders do.
_PHOTO = ImageInput(
    name="image",
    mode="RGB",
    exif=False,
    preprocessing=Preprocessing(geometry=(), arithmetic=(), height=1, width=1, channels=3),
)


@dataclass(frozen=True, kw_only=True)
class Images:
    """The cases, and sentences about what of the user's folder is not among them."""

    cases: tuple[Case, ...]
    skipped_samples: tuple[str, ...] = ()


def read_cases(samples: Path | None, spec: ImageInput) -> Images:
    """Return the user's images, or our own, followed by odd ones made of them.

    ``samples`` is an image file or a folder of them. Raises ParityError when it holds none that ``spec`` can decode.
    """
    if spec.mode == "bands":
        made = _made_bands(spec, [(300, 451), *_ODD.values()])
        if samples is None:
            return Images(cases=made)
        user = _user_images(samples, spec)
        return Images(cases=(*user.cases, *made[1:]), skipped_samples=user.skipped_samples)
    # A network that takes every size would run on long ones as they are.
    any_size = spec.preprocessing.height is None
    cut = _cut_images() if spec.truncated else ()
    if samples is None:
        return Images(cases=(*_own_images(any_size=any_size), *cut))
    user = _user_images(samples, spec)
    made = _made_images(user.cases, any_size=any_size)
    return Images(cases=(*user.cases, *made, *cut), skipped_samples=user.skipped_samples)


@cache
def _own_images(*, any_size: bool) -> tuple[Case, ...]:
    photos = _own_photos()
    return (*photos, *_made_images(photos, any_size=any_size))


def _made_images(photos: Sequence[Case], *, any_size: bool) -> tuple[Case, ...]:
    return (*_odd_images(photos, _ODD if any_size else _ODD | _LONG), *_noise_images())


def odd_cases(*, exif: bool) -> Iterator[tuple[Case, Image.Image]]:
    """Yield the odd ones of our own images, and each as Pillow decodes it, upright where ``exif`` says so."""
    for case in _odd_images(_own_photos(), _ODD):
        with Image.open(io.BytesIO(case.data)) as opened:
            yield case, (ImageOps.exif_transpose(opened) if exif else opened).convert("RGB")


def batch_of(cases: Sequence[Case], spec: ImageInput, count: int) -> tuple[Case, ...]:
    """Return ``count`` images of one size: those of the cases that have it, and others cut from the cases."""
    if spec.mode == "bands":
        made = _made_bands(spec, [_BATCH_IMAGE] * len(_PHOTOS))
        return tuple(made[row % len(made)] for row in range(count))
    noise = [case for case in cases if case.name in _NOISE_NAMES and case.group != SAMPLES][:count]
    # A network may take sizes of a kind alone, and so none of noise.
    height, width = _NOISE_SIZE if noise else _BATCH_IMAGE
    others = [case for case in cases if case not in noise][: count - len(noise)]
    resized = (_to_png(_decode(case).resize((width, height))) for case in others)
    made = (*noise, *(Case(name=f"batch {row}", data=data) for row, data in enumerate(resized)))
    return tuple(made[row % len(made)] for row in range(count))


def _made_bands(spec: ImageInput, sizes: Sequence[tuple[int, int]]) -> tuple[Case, ...]:
    """Return .npy files whose bands are channels of our photos and use all bits of the type."""
    photos = _own_photos()
    cases = []
    for index, (height, width) in enumerate(sizes):
        planes: list[NDArray[Any]] = []
        while len(planes) < spec.channels:
            photo = _decode(photos[(index + len(planes)) % len(photos)]).resize((width, height))
            planes += list(np.moveaxis(np.asarray(photo), 2, 0))
        array = np.stack(planes[: spec.channels], axis=-1)
        if spec.dtype == "uint16":
            noise = np.random.default_rng(index).integers(0, 256, array.shape)
            array = (array.astype(np.uint16) << 8) | noise.astype(np.uint16)
        stream = io.BytesIO()
        np.save(stream, array)
        cases.append(Case(name=f"bands {height} x {width} ({index})", data=stream.getvalue()))
    return tuple(cases)


def _own_photos() -> tuple[Case, ...]:
    folder = files("exporter.parity") / "photos"
    return tuple(Case(name=name, data=(folder / f"{name}.jpg").read_bytes(), group=PHOTOS) for name in _PHOTOS)


def _user_images(samples: Path, spec: ImageInput) -> Images:
    if not samples.exists():
        raise ParityError(f"'{samples}': no such file or folder. Check the path given to --samples.")
    paths = sorted(path for path in samples.rglob("*") if path.is_file()) if samples.is_dir() else [samples]
    cases: list[Case] = []
    other_files: list[str] = []
    for path in paths:
        try:
            case = Case(name=path.name, data=read_source(path, f"'{path.name}'"), group=SAMPLES)
            decode_image(case.data, spec, subject=f"'{case.name}'")
        except (InputError, OSError) as error:
            if samples.is_dir():  # a folder of photos may hold other files
                other_files.append(path.name)
                continue
            raise ParityError(f"'{samples}': cannot be used as a sample: {error}") from error
        cases.append(case)
        if len(cases) == _MAX_SAMPLES:
            break
    if not cases:
        raise ParityError(f"'{samples}': no image file in it. Check the path given to --samples.")
    skipped_samples = []
    if other_files:
        skipped_samples.append(f"in '{samples}', files that are no images: {listed(other_files, 3)}")
    rest = len(paths) - len(cases) - len(other_files)
    if rest:
        skipped_samples.append(
            f"in '{samples}', {rest} of {len(paths)} files: the first {_MAX_SAMPLES} images were taken"
        )
    return Images(cases=tuple(cases), skipped_samples=tuple(skipped_samples))


@contextmanager
def as_training_loads(*, truncated: bool) -> Iterator[None]:
    """Let Pillow read files that end too early, as a training loader's own line does; not the runtime's way."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = truncated or before
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def transform_errors_named(case: Case) -> Iterator[None]:
    """Raise PreprocessingError with the name of the image where the user's transform raises anything."""
    try:
        yield
    except Exception as error:
        line = line_of(error)
        remedy = (
            "leave the image out of --samples" if case.group == SAMPLES else "pass photos that it takes as --samples"
        )
        raise PreprocessingError(
            f"'{case.name}': the training transform fails on it: {type(error).__name__}: {first_line(error)}"
            f"{f' ({line})' if line else ''}. Let it take photos of any size, or {remedy}."
        ) from error


def _cut_images() -> tuple[Case, ...]:
    """Return files that end too early: a JPEG's rows are missing at the end, and a PNG's."""
    photo = _decode(_own_photos()[0]).resize((96, 64))
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=90)
    files_by_name = {"JPEG that ends too early": stream.getvalue(), "PNG that ends too early": _to_png(photo)}
    return tuple(Case(name=name, data=data[: len(data) * 3 // 5]) for name, data in files_by_name.items())


def _noise_images() -> tuple[Case, ...]:
    """Return images of random pixels, of two seeds: hard for every transform and network."""
    return tuple(Case(name=name, data=_to_png(Image.fromarray(_noise(seed)))) for seed, name in enumerate(_NOISE_NAMES))


def _noise(seed: int) -> NDArray[np.uint8]:
    height, width = _NOISE_SIZE
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _odd_images(photos: Sequence[Case], sizes: Mapping[str, tuple[int, int]]) -> tuple[Case, ...]:
    made = []
    for index, (name, (height, width)) in enumerate(sizes.items()):
        image = _decode(photos[index % len(photos)]).resize((width, height), Image.Resampling.LANCZOS)
        # Few colors: small files, which fit into a golden set; and palettes are to be looked up.
        # Of long ones by the faster way: the other takes most of a second for both.
        method = Image.Quantize.FASTOCTREE if name in _LONG else Image.Quantize.MEDIANCUT
        palette_image = image.quantize(64, method=method, dither=Image.Dither.NONE)
        made.append(Case(name=f"{name} {height} x {width}", data=_to_png(palette_image)))
    gray = _decode(photos[0]).convert("L")
    rotated = _decode(photos[-1]).resize((150, 100))
    return (
        *made,
        Case(name="grayscale", data=_to_png(gray)),
        Case(name="EXIF orientation 6", data=_to_png(rotated, orientation=6)),
        *_odd_formats(_decode(photos[0]).resize((96, 64))),
    )


def _odd_formats(photo: Image.Image) -> tuple[Case, ...]:
    """Return what loaders disagree about: alpha, CMYK, and 16 bits per pixel."""
    transparent = photo.copy()
    transparent.putalpha(Image.linear_gradient("L").resize(photo.size))
    sixteen_bit = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    stream = io.BytesIO()
    photo.convert("CMYK").save(stream, "TIFF", compression="tiff_lzw")
    return (
        Case(name="alpha", data=_to_png(transparent)),
        Case(name="16 bits", data=_to_png(sixteen_bit)),
        Case(name="CMYK", data=stream.getvalue()),
    )


def _decode(case: Case) -> Image.Image:
    image = decode_image(case.data, _PHOTO, subject=f"'{case.name}'").image
    assert isinstance(image, Image.Image)
    return image


def _to_png(image: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif)
    return stream.getvalue()
