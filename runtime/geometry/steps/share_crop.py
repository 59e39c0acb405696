"""Center crop to shares of the short side on the host, of images and arrays."""

from PIL import Image

from runtime.geometry.arrays import Pixels
from runtime.geometry.sizes import PreparedShape, share_of
from runtime.geometry.steps import center_crop
from runtime.manifest import CenterCrop, ShareCrop


def shape_after(shape: PreparedShape, step: ShareCrop) -> PreparedShape:
    """Return the crop's shape, which follows from the image's."""
    if shape.size is None:
        return shape
    crop = crop_of(*shape.size, step)
    return PreparedShape(size=(crop.height, crop.width), channels=shape.channels)


def measure(shape: PreparedShape, step: ShareCrop) -> tuple[PreparedShape, int]:
    """Return the crop's shape, and what it keeps."""
    after = shape_after(shape, step)
    return after, after.values


def loses_side(shape: PreparedShape, step: ShareCrop) -> bool:
    """Return whether a side would be 0, where transformers fails."""
    assert shape.size is not None, "the size of an image is known"
    return int(min(step.height, step.width) * min(shape.size)) < 1


def crop_of(height: int, width: int, step: ShareCrop) -> CenterCrop:
    """Return the crop of an image of this size."""
    sides = share_of(height, width, step.height), share_of(height, width, step.width)
    return CenterCrop(height=sides[0], width=sides[1], rounding="down")


def run_on_image(image: Image.Image, step: ShareCrop) -> Image.Image:
    """Return the middle of an image."""
    return center_crop.run_on_image(image, crop_of(image.height, image.width, step))


def run_on_array(pixels: Pixels, step: ShareCrop) -> Pixels:
    """Return the middle of pixels [height, width, channels]."""
    return center_crop.run_on_array(pixels, crop_of(pixels.shape[0], pixels.shape[1], step))


def mask_step(step: ShareCrop, _ignored: int) -> ShareCrop:
    """Return the same crop, which adds nothing."""
    return step
