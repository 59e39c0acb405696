"""Memory that preprocessing takes, from an image's size and the manifest's steps, before anything is decoded."""

from functools import lru_cache

import msgspec

from runtime.geometry.registry import STEPS
from runtime.geometry.sizes import KEPT_SIZES, PreparedShape
from runtime.manifest import Preprocessing

# The network's input is float32.
_TENSOR_ITEMSIZE = 4


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of one array or table on the way of an image to the network, and what it is, for messages."""

    size_bytes: int
    what: str


@lru_cache(maxsize=KEPT_SIZES)
def largest_need(shape: PreparedShape, preprocessing: Preprocessing, *, itemsize: int) -> Need:
    """Return what takes most memory of an image of ``shape``: the decoded pixels, what a step makes, or the tensor.

    What has the same size for every image counts as nothing: it is the model's choice, not the image's. Sizes are those
    of whole steps, whatever a crop behind a resize saves.
    """
    needs = [Need(size_bytes=shape.values * itemsize, what="its pixels")]
    fixed = PreparedShape(size=None, channels=shape.channels)
    for step in preprocessing.geometry:
        module = STEPS[type(step)]
        after, largest_bytes = module.measure(shape, step)
        if fixed.size is None:
            size = "" if after.size is None else f" to {after.size[1]} x {after.size[0]}"
            what = f"the step '{step.__struct_config__.tag}'{size}"
            needs.append(Need(size_bytes=largest_bytes * itemsize, what=what))
        shape, fixed = after, module.shape_after(fixed, step)
    if preprocessing.height is None or preprocessing.width is None:
        needs.append(Need(size_bytes=shape.values * _TENSOR_ITEMSIZE, what="the network's input, in float32"))
    return max(needs, key=lambda need: need.size_bytes)
