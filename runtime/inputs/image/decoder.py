"""Decoder of images: exactly what Pillow's ``open().convert(mode)`` gives."""

import io
import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from runtime.artifact.open import Artifact
from runtime.errors import InputError
from runtime.geometry import native, preparation
from runtime.geometry.arrays import Part, Pixels
from runtime.geometry.images import to_array
from runtime.inputs.decoder import DecodedInput, Decoder, fix_of_type, read_source
from runtime.inputs.image.bands import check_bands, read_bands
from runtime.inputs.image.buffers import borrow_buffer, join_adjacent
from runtime.inputs.image.foreign import foreign_kind
from runtime.inputs.image.jpeg import decode_jpeg
from runtime.inputs.image.jpeg_frame import Frame, read_frame
from runtime.inputs.image.limits import check_sides, check_size, too_large
from runtime.inputs.image.structure import check_structure
from runtime.inputs.image.tiff import check_tiff_tags
from runtime.inputs.image.truncated import truncated_images
from runtime.inputs.tensor.npy import MAGIC, read_npy
from runtime.manifest import ImageInput

ImageSource: TypeAlias = str | PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[Any]

# 64 megapixels, 192 MB as RGB: more than any phone's photo that is not a panorama. Checked before decoding.
MAX_PIXELS = 64_000_000

# The name of the prepared pixels in the graphs.
PIXELS = "pixels"

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")

# Pillow's own limits are looser than ours. Once and for all: catch_warnings() around each call is not for threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_ORIENTATION = ExifTags.Base.Orientation
_UPRIGHT = 1

# How Pillow does what each EXIF orientation asks for.
_ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The warning of an image whose EXIF orientation asks for a rotation that the model was not trained with.
ROTATED = "rotated"

# The warning of an image whose pixels are whole and whose EXIF metadata is not.
DAMAGED_METADATA = "damaged metadata"

# The key of the warning about images whose file ends too early, where they are taken.
TRUNCATED = "truncated"

# The names of the dimensions of an image as the ``model`` graph takes it.
HEIGHT, WIDTH = "height", "width"

# Batches save nothing on a CPU (measured); a few at a time bounds the memory that a long list takes.
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class DecodedImage(DecodedInput):
    """A loaded image of the manifest's mode; ``turned`` says that its EXIF orientation asks for a rotation.

    Of a JPEG, ``image`` may be the part that the geometry looks at; ``encoded`` is the JPEG then. ``warning`` is set
    where its metadata cannot be read, and so nothing says whether it asks for a rotation.
    """

    image: Image.Image | Pixels | Part
    turned: bool
    encoded: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        """The height and the width of the whole image."""
        match self.image:
            case Part(size=size):
                return size
            case Image.Image(height=height, width=width):
                return height, width
            case pixels:
                return pixels.shape[0], pixels.shape[1]

    def to_array(self) -> Pixels:
        """Return the pixels, [height, width, channels]."""
        if not isinstance(self.image, Part):
            return to_array(self.image)
        frame = read_frame(self.encoded)
        whole = frame and decode_jpeg(self.encoded, frame, "L" if self.image.pixels.shape[2] == 1 else "RGB")
        assert whole, "a JPEG of which a part was decoded is sound"
        return whole.pixels


class ImageDecoder(Decoder):
    """Photos: decoded, and prepared on the host as the manifest's geometry says.

    A prepared image is uint8 (of 16-bit bands uint16) [height, width, channels]; those of one size may share a batch.
    ``fast`` uses the native kernel and a JPEG decoder that ``jpeg.py`` finds, from the second photo on; without it,
    Pillow gives the same pixels.
    """

    batch_size = _BATCH
    # Sizes follow from cameras, and few networks see more of them than what a resize leaves.
    refuses_lengths = False

    def __init__(
        self, spec: ImageInput, _artifact: Artifact, *, max_pixels: int = MAX_PIXELS, fast: bool = True
    ) -> None:
        self._spec = spec
        self.raw_names = frozenset({spec.name})
        self._fast = fast
        self._max_pixels = max_pixels
        self._seen = count()
        _raise_pillows_limit(max_pixels)
        self.warnings = {
            ROTATED: "asks for a rotation by EXIF, which this model's training loader did not apply, so it is not "
            "applied here. If yours did, export it with --exif.",
            DAMAGED_METADATA: "EXIF metadata cannot be read and is ignored: the pixels are used as they are stored. "
            "Save the image again if it appears rotated.",
            TRUNCATED: "the file ends too early: what is missing is filled in, as it was in training. Copy or download "
            "it again if it should be whole.",
        }

    def decode(self, source: ImageSource, *, subject: str) -> DecodedImage:
        """Return the image as ``decode_image`` does; InputError also where a step would leave nothing of it."""
        # Only the kernel prepares arrays of photos. Loading and checking it takes longer than a lone photo without it.
        fast = self._fast and (native.is_loaded() or next(self._seen) > 0) and native.find_kernel().module is not None
        decoded = decode_image(source, self._spec, subject=subject, max_pixels=self._max_pixels, fast=fast)
        check_sides(decoded.size, self._spec, subject=subject)
        return replace(decoded, warning=ROTATED) if decoded.turned and not self._spec.exif else decoded

    def lengths(self, decoded: DecodedImage) -> Mapping[str, int]:
        """Return the height and the width."""
        height, width = decoded.size
        return {HEIGHT: height, WIDTH: width}

    def prepare(self, decoded: DecodedImage, *, slot: Pixels | None = None) -> Pixels:
        """Return the prepared pixels, [height, width, channels], in ``slot`` where they fit."""
        steps = self._spec.preprocessing.geometry
        if self._fast and native.is_loaded():
            pixels = native.prepare(decoded.image, steps, slot)
        else:
            pixels = preparation.prepare(decoded.image, steps)  # type: ignore[arg-type]  # parts need the kernel
        if slot is None or pixels is slot or pixels.shape != slot.shape or pixels.dtype != slot.dtype:
            return pixels
        slot[...] = pixels
        return slot

    def slots(self, count: int) -> Sequence[Any]:
        """Return memory of this thread for the pixels of ``count`` images, where all are of one size."""
        prepared, dtype = self._spec.preprocessing, np.dtype(self._spec.dtype)
        if count < 2 or prepared.height is None or prepared.width is None:
            return super().slots(count)
        shape = (count, prepared.height, prepared.width, prepared.channels)
        memory = borrow_buffer(math.prod(shape) * dtype.itemsize, use="batch")
        return list(memory.view(dtype).reshape(shape))

    def prepare_into(self, decoded: DecodedImage, slot: Pixels | None) -> Pixels:
        """Return the prepared pixels, in ``slot`` where they fit."""
        return self.prepare(decoded) if slot is None else self.prepare(decoded, slot=slot)

    def bucket(self, prepared: Pixels) -> Hashable:
        """Return the size, which is the same for all images where the transform ends in a fixed one."""
        return prepared.shape

    def stack(self, prepared: Sequence[Pixels]) -> dict[str, NDArray[Any]]:
        """Return the pixels, [batch, height, width, channels]."""
        return {PIXELS: join_adjacent(prepared)}

    def raw_arrays(self, decoded: DecodedImage) -> dict[str, NDArray[Any]]:
        """Return the image as it is, [1, height, width, channels]."""
        return {self._spec.name: decoded.to_array()[np.newaxis]}


def decode_image(
    source: ImageSource, spec: ImageInput, *, subject: str, max_pixels: int = MAX_PIXELS, fast: bool = False
) -> DecodedImage:
    """Return ``source`` as a loaded image of the mode that ``spec`` names, rotated by EXIF only if ``spec`` says so.

    ``source`` is a path, the bytes of an encoded image, a PIL image, or an array [height, width, channels], uint8 in
    RGB order for photos, also as the bytes of an .npy file.
    ``subject`` names it in messages. With ``fast``, the image is an array [height, width, channels] where no PIL image
    is needed on the way to the same pixels; or, of a JPEG, the part that the geometry looks at. Raises InputError when
    it is missing, not an image of a known format, damaged, or larger than ``max_pixels``; or becomes larger than these
    take on its way to the network. One that ends too early is damaged unless ``spec`` takes it as far as it goes.
    """
    if spec.mode == "bands":
        return DecodedImage(image=_bands(source, spec, subject, max_pixels), turned=False)
    check = partial(check_size, spec=spec, subject=subject, max_pixels=max_pixels)
    if isinstance(source, Image.Image):
        check((source.height, source.width))
        with truncated_images(allowed=spec.truncated):
            return _load(source, spec, subject)
    data = b"" if isinstance(source, np.ndarray) else _read(source, subject)
    if isinstance(source, np.ndarray) or data.startswith(MAGIC):
        array = _check_array(source if isinstance(source, np.ndarray) else read_npy(data, subject), spec, subject)
        check(array.shape[:2])
        return DecodedImage(image=to_array(array) if fast else Image.fromarray(array), turned=False)
    check_structure(data, subject)
    frame = read_frame(data) if fast else None
    if frame is not None and frame.is_plain and frame.height * frame.width <= _most_pixels(max_pixels):
        check((frame.height, frame.width))
        decoded = _decode_fast(data, frame, spec)
        if decoded is not None:
            return decoded
        frame = None
    try:
        with truncated_images(allowed=False):
            return _decode(data, frame, spec, subject, max_pixels)
    except InputError:
        if not spec.truncated:
            raise
    with truncated_images(allowed=True):
        return replace(_decode(data, None, spec, subject, max_pixels), warning=TRUNCATED)


def _decode(data: bytes, frame: Frame | None, spec: ImageInput, subject: str, max_pixels: int) -> DecodedImage:
    """Return an encoded image as Pillow reads it; ``frame`` is that of a JPEG that may be decoded faster."""
    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise InputError(_not_an_image(data, subject)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large(subject, max_pixels, f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f}") from None
    except Exception as error:  # a header that breaks Pillow's parser may raise anything, and is the input's fault
        raise InputError(f"{subject}: damaged image: {error}. Save it again.") from error
    with opened:
        check_size((opened.height, opened.width), spec=spec, subject=subject, max_pixels=max_pixels)
        check_tiff_tags(opened, subject=subject, max_pixels=max_pixels)
        decoded = None if frame is None else _load_jpeg(opened, data, frame, spec)
        return decoded or _load(opened, spec, subject)


def _read(source: str | PathLike[str] | bytes | bytearray | memoryview, subject: str) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if not isinstance(source, str | PathLike):
        raise InputError(
            f"{subject}: not an image: expected a path, bytes, a PIL image or a uint8 array, "
            f"got {type(source).__name__}. {fix_of_type(source)}"
        )
    return read_source(source, subject)


def _not_an_image(data: bytes, subject: str) -> str:
    if not data:
        return f"{subject}: empty: expected an encoded image, got 0 bytes. Copy or download it again."
    what, fix = foreign_kind(data) or (f"bytes that start with {data[:8]!r}", "Convert it first.")
    return f"{subject}: not an image: expected one of {', '.join(FORMATS)}, got {what}. {fix}"


def _raise_pillows_limit(max_pixels: int) -> None:
    """Let Pillow open what the user allows: it has one limit per process, and refuses twice as many pixels."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _most_pixels(max_pixels: int) -> int:
    """Return how many pixels an image may have by the user's limit and by Pillow's."""
    return max_pixels if Image.MAX_IMAGE_PIXELS is None else min(max_pixels, 2 * Image.MAX_IMAGE_PIXELS)


def _load_jpeg(image: Image.Image, data: bytes, frame: Frame, spec: ImageInput) -> DecodedImage | None:
    """Return the pixels of a JPEG with EXIF or the like, or None: then Pillow decodes it, or says what is wrong."""
    if image.format != "JPEG" or image.size != (frame.width, frame.height):
        return None
    orientation, warning = _read_orientation(image)
    decoded = None if orientation in _ROTATIONS and spec.exif else _decode_fast(data, frame, spec)
    return decoded and replace(decoded, turned=_is_turned(orientation), warning=warning)


def _decode_fast(data: bytes, frame: Frame, spec: ImageInput) -> DecodedImage | None:
    window = native.needed_window(frame.height, frame.width, spec.preprocessing.geometry)
    part = decode_jpeg(data, frame, spec.mode, window)
    if part is None:
        return None
    if part.is_whole:
        return DecodedImage(image=part.pixels, turned=False)
    return DecodedImage(image=part, turned=False, encoded=data)


def _read_orientation(image: Image.Image) -> tuple[int, str]:
    """Return the EXIF orientation, and a warning where the metadata cannot be read: then the pixels are upright."""
    try:
        return image.getexif().get(_ORIENTATION, _UPRIGHT), ""
    except MemoryError:
        raise
    except Exception:  # metadata that breaks Pillow's parser may raise anything; Pillow reads the pixels without it
        return _UPRIGHT, DAMAGED_METADATA


def _is_turned(orientation: int) -> bool:
    return orientation not in {0, _UPRIGHT}


def _load(image: Image.Image, spec: ImageInput, subject: str) -> DecodedImage:
    try:
        image.load()
        orientation, warning = _read_orientation(image)
        if spec.exif and orientation in _ROTATIONS:
            # Not ImageOps.exif_transpose, which writes the metadata anew and fails where other parts of it are damaged.
            image = image.transpose(_ROTATIONS[orientation])
        pixels = image if image.mode == spec.mode else image.convert(spec.mode)
        return DecodedImage(image=pixels, turned=_is_turned(orientation), warning=warning)
    except MemoryError:
        raise
    except Exception as error:  # damage inside the data surfaces as OSError, SyntaxError, ValueError, struct.error, ...
        raise InputError(f"{subject}: damaged image: {error}. Copy or download it again.") from error


def _bands(source: ImageSource, spec: ImageInput, subject: str, max_pixels: int) -> Pixels:
    if isinstance(source, np.ndarray | Image.Image):
        return check_bands(np.asarray(source), spec, subject=subject, max_pixels=max_pixels)
    return read_bands(_read(source, subject), spec, subject=subject, max_pixels=max_pixels)


def _check_array(array: NDArray[Any], spec: ImageInput, subject: str) -> NDArray[np.uint8]:
    if spec.mode == "L" and array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    fits = array.ndim == 2 if spec.mode == "L" else array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not fits or 0 in array.shape:
        shape = "[height, width]" if spec.mode == "L" else "[height, width, 3] in RGB order"
        raise InputError(
            f"{subject}: wrong array: expected uint8 {shape}, "
            f"got {array.dtype} {list(array.shape)}. Convert it, or pass a batch as a list of images."
        )
    return np.ascontiguousarray(array)
