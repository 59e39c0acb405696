"""The kinds of JPEGs whose decoding is proven: baseline and progressive, gray and YCbCr with the usual subsampling.

Everything else (CMYK, Adobe's markers, several photos in a file, arithmetic coding, 12 bits, missing scans, data behind
the end marker) is Pillow's, with its pixels or its error.
"""

import re

import msgspec

_EOI, _SOS, _DQT, _DHT, _DRI, _COM = 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xFE
_BASELINE, _PROGRESSIVE = 0xC0, 0xC2
_APP0, _APP2, _APP14, _APP15 = 0xE0, 0xE2, 0xEE, 0xEF

# Sampling factors (horizontal, vertical) of the luma component: 4:4:4, 4:2:2, 4:4:0, 4:2:0, 4:1:1.
_LUMA_SAMPLING = {(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)}

# A marker between the scans of a progressive JPEG: no stuffed byte, no restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")

_COEFFICIENTS = 64


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a JPEG of a proven kind, of 1 channel or 3.

    ``sampling`` are the luma's factors, (horizontal, vertical): (2, 2) for 4:2:0. ``is_plain`` says that it has no
    application's segments but JFIF's, and so neither EXIF nor anything else that Pillow reads before it decodes.
    """

    height: int
    width: int
    channels: int
    sampling: tuple[int, int] = (1, 1)
    is_plain: bool = True


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
            return msgspec.structs.replace(frame, is_plain=is_plain) if is_whole else None
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
    return Frame(height=height, width=width, channels=len(sampling), sampling=sampling[0])


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
