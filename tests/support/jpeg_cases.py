"""JPEGs of every kind, sound and hostile, and whether the fast decoder agrees with Pillow about them."""

import io
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runtime.errors import InputError
from runtime.inputs.image.decoder import decode_image
from runtime.inputs.image.jpeg import decode_jpeg, find_jpeg_decoder
from runtime.inputs.image.jpeg_frame import read_frame
from runtime.manifest import ImageInput, Preprocessing

_PREPROCESSING = Preprocessing(geometry=(), arithmetic=(), height=1, width=1, channels=3)
SPECS = {
    mode: ImageInput(name="image", mode=mode, exif=False, preprocessing=_PREPROCESSING)  # type: ignore[arg-type]
    for mode in ("RGB", "L")
}

_ORIENTATION = 0x0112


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """An encoded photo, sound or not, and how it was made."""

    name: str
    data: bytes


def random_jpeg(random: np.random.Generator) -> Jpeg:
    """Return a JPEG as an encoder writes it, or, of half of them, with some damage or some oddity."""
    name, data = _encoded(random)
    if random.random() < 0.5:
        return Jpeg(name=name, data=data)
    change = _CHANGES[int(random.integers(len(_CHANGES)))]
    return Jpeg(name=f"{name}, {change.__name__.strip('_').replace('_', ' ')}", data=change(random, data))


def installed_jpegs() -> Iterator[Jpeg]:
    """Yield the JPEGs that installed packages bring along."""
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix.lower() in {".jpg", ".jpeg"} and path.is_file():
                yield Jpeg(name=str(path.relative_to(folder)), data=path.read_bytes())


def difference(jpeg: Jpeg, mode: str) -> str:
    """Return how the fast path's pixels, remark or refusal differ from Pillow's, or nothing."""
    outcomes = []
    for fast in (False, True):
        try:
            decoded = decode_image(jpeg.data, SPECS[mode], subject="photo", fast=fast)
        except InputError as error:
            outcomes.append(str(error))
        else:
            outcomes.append((decoded.to_array().copy(), decoded.turned))
    expected, got = outcomes
    if isinstance(expected, str) or isinstance(got, str):
        same = isinstance(expected, str) and isinstance(got, str) and expected == got
        return "" if same else f"expected {_outline(expected)}, got {_outline(got)}"
    if expected[1] != got[1]:
        return f"expected turned {expected[1]}, got {got[1]}"
    if expected[0].shape != got[0].shape:
        return f"expected {expected[0].shape}, got {got[0].shape}"
    off = np.abs(expected[0].astype(int) - got[0])
    return f"off by up to {off.max()} on {(off > 0).mean():.1%}" if off.any() else ""


def window_difference(random: np.random.Generator, jpeg: Jpeg, mode: str) -> str:
    """Return how a random window of a JPEG of a proven kind, decoded alone, differs from its place in the whole.

    Damage is damage of all windows.
    """
    frame = read_frame(jpeg.data)
    if frame is None:
        return ""
    whole = decode_jpeg(jpeg.data, frame, mode)
    expected = None if whole is None else whole.pixels.copy()
    del whole  # the buffer is lent again
    top, left = (int(random.integers(0, length)) for length in (frame.height, frame.width))
    height, width = int(random.integers(1, frame.height - top + 1)), int(random.integers(1, frame.width - left + 1))
    part = decode_jpeg(jpeg.data, frame, mode, (top, left, height, width))
    name = f"window of {height} x {width} at {top}, {left}"
    if part is None or expected is None:
        return "" if part is expected is None else f"{name}: damaged only {'there' if part is None else 'elsewhere'}"
    rows, columns = part.pixels.shape[:2]
    if part.top > top or part.left > left or part.top + rows < top + height or part.left + columns < left + width:
        return f"{name}: not in the part of {rows} x {columns} at {part.top}, {part.left}"
    same = np.array_equal(part.pixels, expected[part.top : part.top + rows, part.left : part.left + columns])
    return "" if same else f"{name}: other pixels"


def is_fast(jpeg: Jpeg) -> bool:
    """Return whether its markers are those that the fast decoder takes."""
    return find_jpeg_decoder().decode is not None and read_frame(jpeg.data) is not None


def _outline(outcome: Any) -> str:
    return f"'{outcome}'" if isinstance(outcome, str) else f"pixels {list(outcome[0].shape)}"


def photo_like(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Return an image with smooth areas, edges and noise."""
    coarse = random.integers(0, 256, (int(random.integers(1, 12)), int(random.integers(1, 12)), 3), dtype=np.uint8)
    method = Image.Resampling.NEAREST if random.random() < 0.3 else Image.Resampling.BICUBIC
    pixels = np.asarray(Image.fromarray(coarse).resize((width, height), method)).astype(int)
    strength = int(random.choice([0, 4, 40, 200]))
    noise = random.integers(-strength, strength + 1, pixels.shape) if strength else 0
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _encoded(random: np.random.Generator) -> tuple[str, bytes]:
    import simplejpeg

    limit = int(random.choice([4, 40, 200, 500]))
    width, height = (int(random.integers(1, limit + 1)) for _ in range(2))
    quality = int(random.integers(1, 101))
    image = photo_like(random, width, height)
    if random.random() < 0.25:
        name = str(random.choice(["444", "422", "420", "440", "411", "Gray"]))
        colors = "GRAY" if name == "Gray" else "RGB"
        pixels = np.asarray(image.convert("L"))[:, :, np.newaxis] if colors == "GRAY" else np.asarray(image)
        data = simplejpeg.encode_jpeg(
            np.ascontiguousarray(pixels), quality=quality, colorspace=colors, colorsubsampling=name
        )
        return f"simplejpeg {name} {width} x {height} at {quality}", data
    mode = str(random.choice(["RGB", "RGB", "RGB", "RGB", "L", "L", "CMYK"]))
    options: dict[str, Any] = {"quality": quality}
    if mode == "RGB":
        options["subsampling"] = int(random.integers(0, 3))
    for name, share in (("progressive", 0.4), ("optimize", 0.3)):
        if random.random() < share:
            options[name] = True
    if mode == "RGB" and random.random() < 0.05:
        options |= {"keep_rgb": True, "subsampling": 0}
    if random.random() < 0.3:
        options[str(random.choice(["restart_marker_blocks", "restart_marker_rows"]))] = int(random.integers(1, 9))
    if random.random() < 0.15:
        options["comment"] = bytes(random.integers(0, 256, 30, dtype=np.uint8))
    if random.random() < 0.1:
        options["icc_profile"] = bytes(random.integers(0, 256, int(random.choice([10, 70_000])), dtype=np.uint8))
    if random.random() < 0.2:
        exif = Image.Exif()
        exif[_ORIENTATION] = int(random.integers(0, 10))
        options["exif"] = exif
    stream = io.BytesIO()
    try:
        image.convert(mode).save(stream, "JPEG", **options)
    except OSError:  # Pillow's encoder runs out of the memory that it set aside for noise of high quality
        return _encoded(random)
    described = ", ".join(f"{key} {value}" for key, value in options.items() if key not in {"comment", "icc_profile"})
    return f"Pillow {mode} {width} x {height}, {described}", stream.getvalue()


def _truncated(random: np.random.Generator, data: bytes) -> bytes:
    return data[: int(random.integers(0, len(data)))]


def _truncated_with_an_end_marker(random: np.random.Generator, data: bytes) -> bytes:
    return _truncated(random, data) + b"\xff\xd9"


def _bytes_changed(random: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 6))):
        changed[int(random.integers(0, len(data)))] = int(random.integers(0, 256))
    return bytes(changed)


def _header_changed(random: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    start = data.find(b"\xff\xda")
    for _ in range(int(random.integers(1, 4))):
        changed[int(random.integers(0, max(start, 1)))] = int(random.integers(0, 256))
    return bytes(changed)


def _frame_header_changed(random: np.random.Generator, data: bytes) -> bytes:
    start = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    changed = bytearray(data)
    changed[start + int(random.integers(1, 18))] = int(random.choice([0, 1, 2, 3, 8, 12, 0x11, 0x21, 0x22, 0x41, 0xC9]))
    return bytes(changed)


def _data_behind_the_end(random: np.random.Generator, data: bytes) -> bytes:
    return data + bytes(random.integers(0, 256, int(random.integers(1, 100)), dtype=np.uint8))


def _two_in_a_file(random: np.random.Generator, data: bytes) -> bytes:
    return data + _encoded(random)[1]


def _without_its_end_marker(_: np.random.Generator, data: bytes) -> bytes:
    return data[:-2]


def _a_segment_dropped(random: np.random.Generator, data: bytes) -> bytes:
    segments, rest = split_segments(data)
    if segments:
        del segments[int(random.integers(0, len(segments)))]
    return b"\xff\xd8" + b"".join(segments) + rest


def _a_segment_twice(random: np.random.Generator, data: bytes) -> bytes:
    segments, rest = split_segments(data)
    if segments:
        segments.insert(int(random.integers(0, len(segments) + 1)), segments[int(random.integers(0, len(segments)))])
    return b"\xff\xd8" + b"".join(segments) + rest


def _a_segment_added(random: np.random.Generator, data: bytes) -> bytes:
    segments, rest = split_segments(data)
    added = [
        b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([int(random.integers(0, 3))]),
        b"\xff\xe2\x00\x08MPF\x00MM",
        b"\xff\xe1\x00\x10Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff",
        b"\xff\xdd\x00\x04\x00" + bytes([int(random.integers(0, 9))]),
        b"\xff\xdc\x00\x04\x00" + bytes([int(random.integers(0, 99))]),
        b"\xff\xcc\x00\x04\x00\x05",
        b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00",
        b"\xff\xfe\x00\x02",
        b"\xff\xff",
        b"\x00",
    ]
    segments.insert(int(random.integers(0, len(segments) + 1)), added[int(random.integers(0, len(added)))])
    return b"\xff\xd8" + b"".join(segments) + rest


def _without_jfif(_: np.random.Generator, data: bytes) -> bytes:
    segments, rest = split_segments(data)
    return b"\xff\xd8" + b"".join(segment for segment in segments if segment[1] != 0xE0) + rest


def _other_component_ids(random: np.random.Generator, data: bytes) -> bytes:
    """Return it with the ids that some encoders write: 0, 1, 2, or the letters RGB."""
    ids = bytes([0, 1, 2]) if random.random() < 0.5 else b"RGB"
    changed = bytearray(_without_jfif(random, data) if random.random() < 0.5 else data)
    start = max(changed.find(b"\xff\xc0"), changed.find(b"\xff\xc2"))
    if start < 0 or changed[start + 9] != 3:
        return bytes(changed)
    changed[start + 10 : start + 19 : 3] = ids
    position = changed.find(b"\xff\xda")
    while position >= 0:
        for index in range(changed[position + 4]):
            changed[position + 5 + 2 * index] = ids[(changed[position + 5 + 2 * index] - 1) % 3]
        position = changed.find(b"\xff\xda", position + 2)
    return bytes(changed)


def _a_scan_dropped(random: np.random.Generator, data: bytes) -> bytes:
    """Return a progressive JPEG without one of its later scans, a whole file otherwise."""
    starts = []
    position = data.find(b"\xff\xda")
    while position >= 0:
        starts.append(position)
        position = data.find(b"\xff\xda", position + 2)
    if len(starts) < 2:
        return data[:-2] + b"\xff\xd9"
    index = int(random.integers(1, len(starts)))
    end = starts[index + 1] if index + 1 < len(starts) else len(data) - 2
    return data[: starts[index]] + data[end:]


_CHANGES = (
    _truncated,
    _truncated_with_an_end_marker,
    _bytes_changed,
    _header_changed,
    _frame_header_changed,
    _data_behind_the_end,
    _two_in_a_file,
    _without_its_end_marker,
    _a_segment_dropped,
    _a_segment_twice,
    _a_segment_added,
    _without_jfif,
    _other_component_ids,
    _a_scan_dropped,
)


def split_segments(data: bytes) -> tuple[list[bytes], bytes]:
    """Return a JPEG's segments up to its first scan, and the rest."""
    segments = []
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        length = 2 + int.from_bytes(data[position + 2 : position + 4])
        segments.append(data[position : position + length])
        position += length
    return segments, data[position:]
