"""Sizes and positions of resized and cropped images, compiled by TorchScript.

The functions of ``runtime/geometry/sizes.py``; an image's size is known at run time alone.
"""

from torch import nn

from runtime.manifest import KeepRatio, Resize


class ResizedSize(nn.Module):
    """``runtime.geometry.sizes.resized_size``, compiled."""

    def __init__(self, step: Resize) -> None:
        super().__init__()
        box = step.size if isinstance(step.size, KeepRatio) else None
        self.short_side = step.size if isinstance(step.size, int) else 0
        self.height, self.width = step.size if isinstance(step.size, tuple) else (0, 0)
        self.max_size = step.max_size or 0
        self.box_height, self.box_width = (float(box.height), float(box.width)) if box else (0.0, 0.0)
        self.inside = box is not None and box.side == "inside"
        self.divide = box is not None and box.arithmetic == "divide"
        self.thumbnail = box is not None and box.arithmetic == "long_side"
        self.multiple = int(step.multiple or 1)
        self.enlarge = box is None or box.enlarge

    def forward(self, old_height: int, old_width: int) -> tuple[int, int]:
        """Return the new height and width."""
        height, width = self._before_rounding_up(old_height, old_width)
        return -(-height // self.multiple) * self.multiple, -(-width // self.multiple) * self.multiple

    def _before_rounding_up(self, old_height: int, old_width: int) -> tuple[int, int]:
        if self.thumbnail:
            return self._thumbnail(old_height, old_width)
        if self.box_height > 0:
            return self._fitted(float(old_height), float(old_width))
        height, width = self.height, self.width
        if self.short_side > 0:
            short = min(old_height, old_width)
            height, width = self.short_side * old_height // short, self.short_side * old_width // short
            long = max(height, width)
            if self.max_size > 0 and long > self.max_size:
                height, width = max(1, self.max_size * height // long), max(1, self.max_size * width // long)
        return height, width

    def _thumbnail(self, old_height: int, old_width: int) -> tuple[int, int]:
        height, width = min(old_height, int(self.box_height)), min(old_width, int(self.box_width))
        if old_height > old_width:
            width = max(1, old_width * height // old_height)
        elif old_width > old_height:
            height = max(1, old_height * width // old_width)
        return height, width

    def _fitted(self, height: float, width: float) -> tuple[int, int]:
        if self.divide:
            by_height, by_width = height / self.box_height, width / self.box_width
            ratio = max(by_height, by_width) if self.inside else min(by_height, by_width)
            ratio = ratio if self.enlarge else max(ratio, 1.0)
            new_height, new_width = height / ratio, width / ratio
        else:
            by_height, by_width = self.box_height / height, self.box_width / width
            ratio = min(by_height, by_width) if self.inside else max(by_height, by_width)
            ratio = ratio if self.enlarge else min(ratio, 1.0)
            new_height, new_width = height * ratio, width * ratio
        # TorchScript's round gives a float.
        return max(1, int(round(new_height))), max(1, int(round(new_width)))  # noqa: RUF046


def frame_before(missing: int, up: bool) -> int:
    """Return how many of the pixels that a crop adds to an axis come before the image: half, an odd one as it says."""
    return missing - missing // 2 if up else missing // 2


def crop_window(size: int, crop: int, down: bool) -> tuple[int, int]:
    """Return the start and the length of what a centered crop keeps of ``size`` pixels; of all, where there is none."""
    if crop == 0 or size <= crop:
        return 0, size
    if down:
        return (size - crop) // 2, crop
    return int(round((size - crop) / 2.0)), crop  # noqa: RUF046  TorchScript's round gives a float
