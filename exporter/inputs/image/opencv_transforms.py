"""OpenCV's resize and Ultralytics' letterbox as transforms of PIL images.

They are the reference for models that were trained with them, and go into a Compose like torchvision's own, before
ToTensor. OpenCV itself computes them (extra
``opencv``); the artifact follows it without OpenCV.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from exporter.errors import PreprocessingError


@dataclass(frozen=True, kw_only=True)
class OpenCVResize:
    """``cv2.resize`` to (height, width), which never antialiases: INTER_LINEAR or INTER_NEAREST."""

    size: tuple[int, int]
    interpolation: Literal["bilinear", "nearest"] = "bilinear"

    def __post_init__(self) -> None:
        _import_cv2()

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the resized image."""
        cv2 = _import_cv2()
        mode = cv2.INTER_LINEAR if self.interpolation == "bilinear" else cv2.INTER_NEAREST
        height, width = self.size
        return Image.fromarray(cv2.resize(np.asarray(image), (width, height), interpolation=mode))


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """The whole image inside (height, width), its aspect ratio kept, on a background of one gray level.

    As Ultralytics' LetterBox with ``auto=False``: the sides are rounded, OpenCV resizes bilinearly, the frame is 114,
    and where its width is odd the extra pixel is below and to the right. Without ``enlarge`` (``scaleup``) smaller
    images keep their size.
    """

    size: tuple[int, int]
    fill: int = 114
    enlarge: bool = True

    def __post_init__(self) -> None:
        _import_cv2()

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the framed image."""
        cv2 = _import_cv2()
        height, width = self.size
        ratio = min(height / image.height, width / image.width)
        ratio = ratio if self.enlarge else min(ratio, 1.0)
        inner_height, inner_width = max(1, round(image.height * ratio)), max(1, round(image.width * ratio))
        pixels = np.asarray(image)
        if (image.height, image.width) != (inner_height, inner_width):
            pixels = cv2.resize(pixels, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR)
        above, left = round((height - inner_height) / 2 - 0.1), round((width - inner_width) / 2 - 0.1)
        below, right = height - inner_height - above, width - inner_width - left
        color = (self.fill,) * 3
        return Image.fromarray(cv2.copyMakeBorder(pixels, above, below, left, right, cv2.BORDER_CONSTANT, value=color))


def _import_cv2() -> Any:
    try:
        import cv2
    except ModuleNotFoundError:
        raise PreprocessingError(
            "'OpenCVResize' and 'Letterbox': OpenCV, the reference for them, is not installed. "
            "Run: pip install 'truecopy[opencv]'."
        ) from None
    return cv2
