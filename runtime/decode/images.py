"""A photo, in any form a caller has it, to decoded pixels: exactly what Pillow's ``open().convert(mode)`` gives."""

import io
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from runtime.errors import InputError
from runtime.manifest import ImageInput

ImageSource: TypeAlias = str | PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]

# 64 megapixels, 192 MB as RGB: more than any phone's photo that is not a panorama. Checked before decoding.
MAX_PIXELS = 64_000_000

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

_ORIENTATION = ExifTags.Base.Orientation
_UPRIGHT = 1


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A loaded image of the manifest's mode; ``turned`` says that its EXIF orientation asks for a rotation."""

    image: Image.Image
    turned: bool


def decode_image(source: ImageSource, spec: ImageInput, *, subject: str, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Return ``source`` as a loaded image of the mode that ``spec`` names, rotated by EXIF only if ``spec`` says so.

    ``source`` is a path, the bytes of an encoded image, a PIL image, or a uint8 array [height, width, 3] in RGB order.
    ``subject`` names it in messages. Raises InputError when it is missing, not an image of a known format, damaged,
    or larger than ``max_pixels``.
    """
    if isinstance(source, np.ndarray):
        return Decoded(image=_from_array(source, subject, max_pixels), turned=False)
    if isinstance(source, Image.Image):
        _check_pixels(source.width, source.height, subject, max_pixels)
        return _load(source, spec, subject)
    stream = io.BytesIO(_read(source, subject))
    try:
        with warnings.catch_warnings():
            # Pillow's own limits come later and are looser than ours.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        raise InputError(_not_an_image(stream.getvalue(), subject)) from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{subject}: too large: {error}. Make it smaller first.") from None
    except Exception as error:  # a header that breaks Pillow's parser may raise anything, and is the input's fault
        raise InputError(f"{subject}: damaged image: {error}. Save it again.") from error
    with opened:
        _check_pixels(opened.width, opened.height, subject, max_pixels)
        return _load(opened, spec, subject)


def subject_of(source: object, position: int) -> str:
    """Return how messages and result rows name an input: its path, or its position among the inputs."""
    return str(source) if isinstance(source, str | PathLike) else f"#{position}"


def _read(source: str | PathLike[str] | bytes | bytearray | memoryview, subject: str) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if not isinstance(source, str | PathLike):
        raise InputError(
            f"{subject}: not an image: expected a path, bytes, a PIL image or a uint8 array, "
            f"got {type(source).__name__}. Convert it first."
        )
    path = Path(source)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{subject}: no such file. Check the path.") from None
    except OSError as error:
        raise InputError(f"{subject}: cannot be read: {error.strerror}. Give the path of an image file.") from error


def _not_an_image(data: bytes, subject: str) -> str:
    if not data:
        return f"{subject}: empty: expected an encoded image, got 0 bytes. Copy or download it again."
    known = ", ".join(FORMATS)
    return (
        f"{subject}: not an image: expected one of {known}, got bytes that start with {data[:8]!r}. Convert it first."
    )


def _check_pixels(width: int, height: int, subject: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InputError(
            f"{subject}: too large: expected at most {max_pixels / 1e6:g} megapixels, got {width} x {height}. "
            "Make it smaller, or raise the limit (max_pixels, --max-megapixels)."
        )


def _load(image: Image.Image, spec: ImageInput, subject: str) -> Decoded:
    try:
        image.load()
        turned = image.getexif().get(_ORIENTATION, _UPRIGHT) not in {0, _UPRIGHT}
        if turned and spec.exif:
            image = ImageOps.exif_transpose(image)
        return Decoded(image=image if image.mode == spec.mode else image.convert(spec.mode), turned=turned)
    except MemoryError:
        raise
    except Exception as error:  # damage inside the data surfaces as OSError, SyntaxError, ValueError, struct.error, ...
        raise InputError(f"{subject}: damaged image: {error}. Copy or download it again.") from error


def _from_array(array: NDArray[np.uint8], subject: str, max_pixels: int) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(
            f"{subject}: wrong array: expected uint8 [height, width, 3] in RGB order, "
            f"got {array.dtype} {list(array.shape)}. Convert it, or pass a batch as a list of images."
        )
    _check_pixels(array.shape[1], array.shape[0], subject, max_pixels)
    return Image.fromarray(np.ascontiguousarray(array))
