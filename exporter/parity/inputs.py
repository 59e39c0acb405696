"""The images that both sides see: real photos, and odd ones made of them."""

import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from exporter.errors import ParityError
from exporter.fronts.protocol import BATCH_SIZES, Case
from runtime.decode.images import decode_image
from runtime.errors import InputError
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

_BATCH_IMAGE = (240, 320)

# Decoding alone, as the loaders do.
_PHOTO = ImageInput(
    name="image",
    mode="RGB",
    exif=False,
    preprocessing=Preprocessing(geometry=(), arithmetic=(), height=1, width=1, channels=3),
)


def read_cases(samples: Path | None, spec: ImageInput) -> tuple[Case, ...]:
    """Return the user's images, or our own, followed by odd ones made of them.

    ``samples`` is an image file or a folder of them. Raises ParityError when it holds none that ``spec`` can decode.
    """
    if spec.mode == "bands":
        made = _made_bands(spec, [(300, 451), *_ODD.values()])
        return made if samples is None else (*_user_images(samples, spec), *made[1:])
    photos = _own_photos() if samples is None else _user_images(samples, spec)
    return (*photos, *_odd_images(photos))


def batch_of(cases: Sequence[Case], spec: ImageInput) -> tuple[Case, ...]:
    """Return images of one size, cut from the cases, as many as the largest batch."""
    if spec.mode == "bands":
        encoded = [case.data for case in _made_bands(spec, [_BATCH_IMAGE] * len(_PHOTOS))]
    else:
        height, width = _BATCH_IMAGE
        encoded = [_to_png(_decode(case).resize((width, height))) for case in cases[: max(BATCH_SIZES)]]
    return tuple(Case(name=f"batch {row}", data=encoded[row % len(encoded)]) for row in range(max(BATCH_SIZES)))


def _made_bands(spec: ImageInput, sizes: Sequence[tuple[int, int]]) -> tuple[Case, ...]:
    """Return .npy files whose bands are channels of our photos, in all of the type's bits."""
    photos = _own_photos()
    cases = []
    for position, (height, width) in enumerate(sizes):
        planes: list[NDArray[Any]] = []
        while len(planes) < spec.channels:
            photo = _decode(photos[(position + len(planes)) % len(photos)]).resize((width, height))
            planes += list(np.moveaxis(np.asarray(photo), 2, 0))
        array = np.stack(planes[: spec.channels], axis=-1)
        if spec.dtype == "uint16":
            noise = np.random.default_rng(position).integers(0, 256, array.shape)
            array = (array.astype(np.uint16) << 8) | noise.astype(np.uint16)
        stream = io.BytesIO()
        np.save(stream, array)
        cases.append(Case(name=f"bands {height} x {width} ({position})", data=stream.getvalue()))
    return tuple(cases)


def _own_photos() -> tuple[Case, ...]:
    folder = files("exporter.parity") / "photos"
    return tuple(Case(name=name, data=(folder / f"{name}.jpg").read_bytes()) for name in _PHOTOS)


def _user_images(samples: Path, spec: ImageInput) -> tuple[Case, ...]:
    if not samples.exists():
        raise ParityError(f"'{samples}': no such file or folder. Check the path given to --samples.")
    paths = sorted(path for path in samples.rglob("*") if path.is_file()) if samples.is_dir() else [samples]
    cases: list[Case] = []
    for path in paths:
        try:
            case = Case(name=path.name, data=path.read_bytes())
            decode_image(case.data, spec, subject=f"'{case.name}'")
        except (InputError, OSError) as error:
            if samples.is_dir():
                continue  # a folder of photos may hold other files
            raise ParityError(f"'{samples}': cannot be used as a sample: {error}") from error
        cases.append(case)
        if len(cases) == _MAX_SAMPLES:
            break
    if not cases:
        raise ParityError(
            f"'{samples}': no photos: expected at least one image file. Check the path given to --samples."
        )
    return tuple(cases)


def _odd_images(photos: Sequence[Case]) -> tuple[Case, ...]:
    made = []
    for position, (name, (height, width)) in enumerate(_ODD.items()):
        image = _decode(photos[position % len(photos)]).resize((width, height), Image.Resampling.LANCZOS)
        made.append(Case(name=f"{name} {height} x {width}", data=_to_png(image)))
    gray = _decode(photos[0]).convert("L")
    turned = _decode(photos[-1]).resize((150, 100))
    return (
        *made,
        Case(name="grayscale", data=_to_png(gray)),
        Case(name="EXIF orientation 6", data=_to_png(turned, orientation=6)),
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
