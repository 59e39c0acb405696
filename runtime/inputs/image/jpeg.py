"""JPEG decoding without Pillow, for the JPEGs of proven kinds, with Pillow's pixels.

Two decoders can do it. The native kernel calls the libjpeg-turbo that Pillow itself has loaded, and decodes only what a
crop keeps; where Pillow does not share its own, simplejpeg decodes the whole photo. Whatever a decoder complains of is
Pillow's, with its pixels or its error.
"""

import io
import math
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, _imaging, features
from PIL.JpegImagePlugin import JpegImageFile

from runtime.geometry.arrays import Part, Window, make_noise
from runtime.geometry.native import find_kernel, to_gray
from runtime.inputs.image.buffers import borrow_buffer
from runtime.inputs.image.jpeg_frame import Frame, read_frame

_INSTALL = "pip install 'truecopy[fast]'"

# From a JPEG and its frame to gray (1 channel) or RGB (3): at least the window, or None where it is damaged.
Decode: TypeAlias = Callable[[bytes, Frame, int, Window], Part | None]


class JpegDecoder(msgspec.Struct, frozen=True, kw_only=True):
    """The JPEG decoder of this process; without ``decode`` it is Pillow.

    ``samplings`` are those of the JPEGs that it was checked with. ``reason`` says why it is not a faster one.
    """

    decode: Decode | None = None
    name: str = ""
    samplings: frozenset[tuple[int, int]] = frozenset()
    reason: str = ""


_lock = threading.Lock()
_decoder: JpegDecoder | None = None


def find_jpeg_decoder() -> JpegDecoder:
    """Return the decoder, which the first call finds and checks.

    A decoder that is there and gives other pixels than Pillow is off for the process, with one warning.
    """
    global _decoder
    if _decoder is None:
        with _lock:
            if _decoder is None:
                _decoder = _first_that_works()
    return _decoder


def decode_jpeg(data: bytes, frame: Frame, mode: str, window: Window | None = None) -> Part | None:
    """Return the pixels of a JPEG as Pillow's ``convert(mode)``: all, or a part with at least those of ``window``.

    ``frame`` is what ``read_frame`` says of it; ``mode`` is RGB or L. None leaves the JPEG to Pillow: it is damaged, or
    no decoder has been checked with its kind. The pixels lie in a buffer that is lent again when nothing refers to them
    any more.
    """
    decoder = find_jpeg_decoder()
    if decoder.decode is None or frame.sampling not in decoder.samplings:
        return None
    return _decode(decoder.decode, data, frame, mode, window)


def _decode(decode: Decode, data: bytes, frame: Frame, mode: str, window: Window | None) -> Part | None:
    # Pillow's gray of a color photo is computed from RGB, not from the JPEG's own luma.
    is_gray = mode == "L" and frame.channels == 1
    part = decode(data, frame, 1 if is_gray else 3, window or (0, 0, frame.height, frame.width))
    if part is None or is_gray or mode != "L":
        return part
    return msgspec.structs.replace(part, pixels=to_gray(part.pixels))


def _first_that_works() -> JpegDecoder:
    reasons = []
    for package, find in _DECODERS.items():
        try:
            name, decode = find()
        except ModuleNotFoundError:
            reasons.append(f"{package}: not installed: {_INSTALL}")
            continue
        except (ImportError, OSError) as error:
            reasons.append(f"{package}: {error}")
            continue
        try:
            checked, problem = check_jpeg_decoder(decode)
        except Exception as error:  # whatever a decoder of another version raises
            problem = f"{type(error).__name__}: {error}"
        if not problem:
            return JpegDecoder(decode=decode, name=name, samplings=checked, reason="; ".join(reasons))
        reasons.append(f"{package}: {name} failed its self-check: {problem}")
        warnings.warn(
            f"{reasons[-1]}. It is off for this process: another decodes JPEGs, slower, with the same pixels. "
            "Install another version of it.",
            RuntimeWarning,
            stacklevel=4,
        )
    return JpegDecoder(reason="; ".join(reasons))


def _find_shared() -> tuple[str, Decode]:
    """Return the name and the function of the decoder that calls Pillow's libjpeg.

    Raises ImportError where that is out of reach.
    """
    kernel = find_kernel().module
    if kernel is None:
        raise ImportError("not used without the native kernel")
    # Whatever it is linked to, wherever that lies.
    library = kernel.LibJpeg(_imaging.__file__)
    name = f"libjpeg-turbo {features.version_feature('libjpeg_turbo')}, Pillow's own"
    return name, partial(_decode_shared, kernel, library)


def _decode_shared(kernel: Any, library: Any, data: bytes, frame: Frame, channels: int, window: Window) -> Part | None:
    size = (frame.height, frame.width)
    decoded = kernel.decoded_window(size, window, frame.sampling[0])
    top, left, _, width = window
    shape = (*decoded[2:], channels)
    pixels = library.decode(data, size, channels, window=decoded, out=_borrow(shape))
    if pixels is None:
        return None
    start = left - decoded[1]
    return Part(pixels=pixels[:, start : start + width], size=size, top=top, left=left)


def _find_simplejpeg() -> tuple[str, Decode]:
    import simplejpeg

    return f"simplejpeg {simplejpeg.__version__}", partial(_decode_whole, simplejpeg)


def _decode_whole(module: Any, data: bytes, frame: Frame, channels: int, _window: Window) -> Part | None:
    pixels = _borrow((frame.height, frame.width, channels))
    try:
        # "strict" makes an error of what libjpeg only warns of.
        decoded = module.decode_jpeg(data, "GRAY" if channels == 1 else "RGB", buffer=pixels, strict=True)
    except ValueError:
        return None
    return Part.of_whole(pixels) if decoded.shape == pixels.shape else None


# By whose they are, the better one first.
_DECODERS: dict[str, Callable[[], tuple[str, Decode]]] = {
    "Pillow's libjpeg": _find_shared,
    "simplejpeg": _find_simplejpeg,
}


def _borrow(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return borrow_buffer(math.prod(shape)).reshape(shape)


def check_jpeg_decoder(decode: Decode) -> tuple[frozenset[tuple[int, int]], str]:
    """Return the samplings of JPEGs of every proven kind, and what they show to be wrong, or nothing."""
    samplings = set()
    for name, data in make_jpegs():
        frame = read_frame(data)
        if frame is None:
            return frozenset(), f"unknown markers in {name}"
        samplings.add(frame.sampling)
        # Gray of a color photo is computed from its RGB, by the kernel or by Pillow itself.
        for mode in ("RGB", "L") if frame.channels == 1 else ("RGB",):
            # Not Image.open: its limit of pixels is the process's, and may be anything.
            with JpegImageFile(io.BytesIO(data)) as opened:
                expected = np.asarray(opened.convert(mode)).reshape(frame.height, frame.width, -1)
            for window in (None, _inner_window(frame)):
                part = _decode(decode, data, frame, mode, window)
                if part is None:
                    return frozenset(), f"it does not decode {name}"
                rows, columns = part.pixels.shape[:2]
                if not np.array_equal(
                    part.pixels, expected[part.top : part.top + rows, part.left : part.left + columns]
                ):
                    return frozenset(), f"other pixels than Pillow's for {name}"
    return frozenset(samplings), ""


def _inner_window(frame: Frame) -> Window:
    """Return a window with columns on either side that need not be decoded, where the image is wide enough."""
    top, left = frame.height // 3, frame.width * 2 // 5
    return top, left, max(frame.height // 3, 1), max(frame.width // 5, 1)


def make_jpegs() -> list[tuple[str, bytes]]:
    """Return JPEGs of every proven kind, by name, of odd sizes; those that Pillow cannot write need simplejpeg."""
    small = make_noise(9, 29, 3)
    # Noise of all frequencies on something smooth: neighbors differ, and few values are clipped.
    # Wider than the 64 pixels that vector instructions take at a time, and of two blocks and a part each way; wide
    # enough to have a window that leaves blocks out on either side.
    photo = Image.fromarray(small).resize((203, 37), Image.Resampling.BICUBIC)
    pixels = np.clip(np.asarray(photo) + make_noise(37, 203, 3) % 60 - 30.0, 0, 255).astype(np.uint8)
    photo = Image.fromarray(pixels)
    gray = photo.convert("L")
    jpegs = [
        (f"{kind} {subsampling}", _encoded(photo, 90, subsampling, options))
        for subsampling in _SUBSAMPLINGS
        for kind, options in _KINDS.items()
    ]
    jpegs += [(f"{kind} gray", _encoded(gray, 70, "4:4:4", options)) for kind, options in _KINDS.items()]
    jpegs.append(("a pixel", _encoded(photo.crop((0, 0, 1, 1)), 90, "4:2:0", {})))
    try:
        import simplejpeg
    except (ImportError, OSError):
        return jpegs
    return jpegs + [
        (f"{name} from simplejpeg", simplejpeg.encode_jpeg(pixels, quality=30, colorsubsampling=name))
        for name in ("444", "422", "420", "440", "411")
    ]


_KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "with restart markers": {"restart_marker_blocks": 2},
}

_SUBSAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def _encoded(image: Image.Image, quality: int, subsampling: str, options: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, subsampling=_SUBSAMPLINGS[subsampling], **options)
    return stream.getvalue()
