"""JPEG decoding with simplejpeg, for the JPEGs that it decodes as Pillow does.

Which those are is proven by kind: baseline and progressive, gray and YCbCr with the usual subsampling. Everything else
(CMYK, Adobe's markers, several photos in a file, arithmetic coding, 12 bits, missing scans, data behind the end marker,
and whatever the decoder complains of) is Pillow's, with its pixels or its error.
"""

import io
import math
import re
import threading
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from runtime.geometry.arrays import make_noise
from runtime.geometry.native import to_gray
from runtime.inputs.image.buffers import borrow_buffer

_INSTALL = "pip install 'truecopy[fast]'"

_EOI, _SOS, _DQT, _DHT, _DRI, _COM = 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xFE
_BASELINE, _PROGRESSIVE = 0xC0, 0xC2
_APP0, _APP2, _APP14, _APP15 = 0xE0, 0xE2, 0xEE, 0xEF

# Sampling factors (horizontal, vertical) of the luma component: 4:4:4, 4:2:2, 4:4:0, 4:2:0, 4:1:1.
_LUMA_SAMPLING = {(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)}

# A marker between the scans of a progressive JPEG: no stuffed byte, no restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")

_COEFFICIENTS = 64


@dataclass(frozen=True, kw_only=True)
class JpegDecoder:
    """The JPEG decoder of this process; without ``module``, ``reason`` says why it is Pillow's."""

    module: Any = None
    version: str = ""
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
                _decoder = _open_decoder()
    return _decoder


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The size of a JPEG of a proven kind, of 1 channel or 3.

    ``is_plain`` says that it has no application's segments but JFIF's, and so neither EXIF nor anything else that
    Pillow reads before it decodes.
    """

    height: int
    width: int
    channels: int
    is_plain: bool = True


def decode_jpeg(data: bytes, frame: Frame, mode: str) -> NDArray[np.uint8] | None:
    """Return the pixels of a JPEG as Pillow's ``convert(mode)``, uint8 [height, width, channels], or None.

    ``frame`` is what ``read_frame`` says of it; ``mode`` is RGB or L. None leaves the JPEG to Pillow: it is damaged, or
    there is no decoder. The pixels lie in a buffer that is lent again when nothing refers to them any more.
    """
    module = find_jpeg_decoder().module
    return None if module is None else _decode(module, data, frame, mode)


def _decode(module: Any, data: bytes, frame: Frame, mode: str) -> NDArray[np.uint8] | None:
    # Pillow's gray of a color photo is computed from RGB, not from the JPEG's own luma.
    is_gray = mode == "L" and frame.channels == 1
    shape = (frame.height, frame.width, 1 if is_gray else 3)
    pixels = borrow_buffer(math.prod(shape)).reshape(shape)
    try:
        # "strict" makes an error of what libjpeg only warns of.
        decoded = module.decode_jpeg(data, "GRAY" if is_gray else "RGB", buffer=pixels, strict=True)
    except ValueError:
        return None
    if decoded.shape != shape:
        return None
    return to_gray(pixels) if mode == "L" and not is_gray else pixels


def read_frame(data: bytes) -> Frame | None:
    """Return the frame of a JPEG whose markers are all of a proven kind, or None."""
    if not (data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9")):
        return None
    frame: Frame | None = None
    kind, is_jfif, is_plain, ids = 0, False, True, b""
    position, end = 2, len(data)
    while position + 4 <= end and data[position] == 0xFF:
        marker = data[position + 1]
        length = int.from_bytes(data[position + 2 : position + 4])
        segment = data[position + 4 : position + 2 + length]
        if length < 2 or len(segment) != length - 2:
            return None
        if marker == _SOS:
            is_ycbcr = is_jfif or ids == b"\1\2\3"
            if frame is None or (frame.channels == 3 and not is_ycbcr):
                return None
            is_whole = _is_whole_scan(segment, ids) if kind == _BASELINE else _has_all_scans(data, position, ids)
            return replace(frame, is_plain=is_plain) if is_whole else None
        if marker in {_BASELINE, _PROGRESSIVE} and frame is None:
            frame, kind, ids = _read_frame_header(segment), marker, segment[6::3]
            if frame is None:
                return None
        elif marker == _APP0 and segment.startswith(b"JFIF"):
            if len(segment) < 14 or segment[4] != 0:
                return None
            is_jfif = True
        elif not _is_harmless(marker, segment):
            return None
        is_plain = is_plain and not _APP0 < marker <= _APP15
        position += 2 + length
    return None


def _is_harmless(marker: int, segment: bytes) -> bool:
    """Return whether a segment is one of tables, or of what no decoder looks at: no Adobe marker, no second photo."""
    if _APP0 <= marker <= _APP15:
        return marker != _APP14 and not (marker == _APP2 and segment.startswith(b"MPF\0"))
    return marker in {_DQT, _DHT, _DRI, _COM}


def _read_frame_header(segment: bytes) -> Frame | None:
    """Return the frame of a SOF segment of 8 bits and of one or three components in a usual sampling."""
    if len(segment) < 9 or segment[0] != 8 or segment[5] not in {1, 3} or len(segment) != 6 + 3 * segment[5]:
        return None
    height, width = int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5])
    sampling = [(factors >> 4, factors & 15) for factors in segment[7::3]]
    usual = {(1, 1)} if len(sampling) == 1 else _LUMA_SAMPLING
    if 0 in (height, width) or sampling[0] not in usual or any(factors != (1, 1) for factors in sampling[1:]):
        return None
    if len(set(segment[6::3])) != len(sampling):
        return None
    return Frame(height=height, width=width, channels=len(sampling))


def _is_whole_scan(segment: bytes, ids: bytes) -> bool:
    """Return whether a SOS segment is that of one scan with all components, in their order, and all coefficients."""
    count = len(ids)
    return (
        len(segment) == 4 + 2 * count
        and segment[0] == count
        and segment[1 : 1 + 2 * count : 2] == ids
        and segment[-3:] == bytes([0, _COEFFICIENTS - 1, 0])
    )


def _has_all_scans(data: bytes, position: int, ids: bytes) -> bool:
    """Return whether the scans from ``position`` on give every bit of every coefficient, and the end marker follows.

    libjpeg smooths over coefficients that are missing, each version in its own way.
    """
    missing_bits = {(component, index): -1 for component in ids for index in range(_COEFFICIENTS)}
    while True:
        marker = data[position + 1]
        if marker == _EOI:
            return position + 2 == len(data) and not any(missing_bits.values())
        length = int.from_bytes(data[position + 2 : position + 4])
        segment = data[position + 4 : position + 2 + length]
        if length < 2 or len(segment) != length - 2 or marker not in {_SOS, _DHT, _DRI}:
            return False
        position += 2 + length
        if marker == _SOS:
            if not segment or len(segment) != 4 + 2 * segment[0]:
                return False
            first, last, high, low = segment[-3], segment[-2], segment[-1] >> 4, segment[-1] & 15
            for component in segment[1:-3:2]:
                for index in range(first, last + 1):
                    bits = missing_bits.get((component, index))
                    if bits is None or bits != (high or -1):
                        return False
                    missing_bits[component, index] = low
            following = _MARKER.search(data, position)
            if following is None:
                return False
            position = following.start()
        elif data[position : position + 1] != b"\xff" or position + 2 > len(data):
            return False


def _open_decoder() -> JpegDecoder:
    try:
        import simplejpeg
    except ModuleNotFoundError:
        return JpegDecoder(reason=f"not installed: {_INSTALL}")
    except (ImportError, OSError) as error:
        return _switched_off(f"cannot be loaded: {error}")
    version = simplejpeg.__version__
    try:
        problem = check_jpeg_decoder(simplejpeg)
    except Exception as error:  # whatever a decoder of another version raises
        problem = f"{type(error).__name__}: {error}"
    if problem:
        return _switched_off(f"version {version} failed its self-check: {problem}")
    return JpegDecoder(module=simplejpeg, version=version)


def _switched_off(reason: str) -> JpegDecoder:
    warnings.warn(
        f"simplejpeg: {reason}. It is off for this process: Pillow decodes JPEGs, slower. Install another version.",
        RuntimeWarning,
        stacklevel=5,
    )
    return JpegDecoder(reason=reason)


def check_jpeg_decoder(module: Any) -> str:
    """Return what JPEGs of every proven kind show to be wrong, or nothing."""
    for name, data in make_jpegs(module):
        frame = read_frame(data)
        if frame is None:
            return f"unknown markers in {name}"
        # Gray of a color photo is computed from its RGB, by the kernel or by Pillow itself.
        for mode in ("RGB", "L") if frame.channels == 1 else ("RGB",):
            # Not Image.open: its limit of pixels is the process's, and may be anything.
            with JpegImageFile(io.BytesIO(data)) as opened:
                expected = np.asarray(opened.convert(mode))
            pixels = _decode(module, data, frame, mode)
            if pixels is None:
                return f"it does not decode {name}"
            if not np.array_equal(pixels if mode == "RGB" else pixels[:, :, 0], expected):
                return f"other pixels than Pillow's for {name}"
    return ""


def make_jpegs(module: Any) -> list[tuple[str, bytes]]:
    """Return JPEGs of every proven kind, by name, of odd sizes."""
    small = make_noise(9, 11, 3)
    # Noise of all frequencies on something smooth: neighbors differ, and few values are clipped.
    # Wider than the 64 pixels that vector instructions take at a time, and of two blocks and a part each way.
    photo = Image.fromarray(small).resize((75, 37), Image.Resampling.BICUBIC)
    pixels = np.clip(np.asarray(photo) + make_noise(37, 75, 3) % 60 - 30.0, 0, 255).astype(np.uint8)
    photo = Image.fromarray(pixels)
    gray = photo.convert("L")
    jpegs = [
        (f"{kind} {subsampling}", _encoded(photo, 90, subsampling, options))
        for subsampling in _SUBSAMPLINGS
        for kind, options in _KINDS.items()
    ]
    jpegs += [(f"{kind} gray", _encoded(gray, 70, "4:4:4", options)) for kind, options in _KINDS.items()]
    jpegs += [
        (f"{name} from simplejpeg", module.encode_jpeg(pixels, quality=30, colorsubsampling=name))
        for name in ("444", "422", "420", "440", "411")
    ]
    jpegs.append(("a pixel", _encoded(photo.crop((0, 0, 1, 1)), 90, "4:2:0", {})))
    return jpegs


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
