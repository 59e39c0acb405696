"""Pixel formats of training loaders: RGB, gray, or arrays of bands."""

import re
from dataclasses import dataclass
from typing import Literal

from exporter.errors import PreprocessingError


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """``RGB`` and ``L`` are PIL images of that mode; ``bands`` are arrays [height, width, channels] of ``dtype``."""

    mode: Literal["RGB", "L", "bands"] = "RGB"
    channels: int = 3
    dtype: Literal["uint8", "uint16"] = "uint8"

    @property
    def largest(self) -> int:
        """The value that becomes 1.0 when pixels are scaled."""
        return 65535 if self.dtype == "uint16" else 255

    def __str__(self) -> str:
        return f"{self.dtype}[{self.channels}]" if self.mode == "bands" else self.mode


RGB = PixelFormat()
GRAY = PixelFormat(mode="L", channels=1)


def read_pixel_format(text: str) -> PixelFormat:
    """Return the format that ``RGB``, ``L``, ``uint8[4]`` or ``uint16[1]`` stands for.

    Raises PreprocessingError for any other text.
    """
    match = re.fullmatch(r"(uint8|uint16)\[([1-9]\d{0,3})\]", text)
    if match:
        return PixelFormat(mode="bands", channels=int(match[2]), dtype=match[1])  # type: ignore[arg-type]
    if text.upper() in {"RGB", "L"}:
        return RGB if text.upper() == "RGB" else GRAY
    raise PreprocessingError(
        f"--pixel-format '{text}': unknown: expected RGB, L, or arrays such as uint8[4]. Name one of these."
    )
