"""OpenCV's and torch's resizes without antialias, to the last bit, without these libraries.

Each new pixel is one old pixel (nearest) or a mixture of two along each axis (bilinear), however many lie between them.
For models that were trained that way; the weights are fixed-point numbers, which show in the pixels.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.geometry.antialias import precision_bits
from runtime.geometry.filters import (
    OPENCV_BITS,
    OPENCV_COLUMN_SHIFT,
    OPENCV_ONE,
    OPENCV_ROW_SHIFT,
    OPENCV_SUM_SHIFT,
)
from runtime.manifest import Resize


class _Taps(msgspec.Struct, frozen=True, kw_only=True):
    """Two old pixels for each new one, and their weights as integers of ``bits`` bits."""

    near: NDArray[np.int64]
    far: NDArray[np.int64]
    near_weight: NDArray[np.int32]
    far_weight: NDArray[np.int32]
    bits: int


def sample(
    pixels: NDArray[np.uint8], step: Resize, *, resized: tuple[int, int], window: tuple[slice, slice]
) -> NDArray[np.uint8]:
    """Return uint8 ``pixels`` [height, width, channels] resized to ``resized`` (height, width).

    Only the rows and columns in ``window`` are computed.
    """
    if step.interpolation != "bilinear":
        rows, columns = (_nearest(pixels.shape[axis], resized[axis], step)[window[axis]] for axis in (0, 1))
        return np.ascontiguousarray(pixels[rows][:, columns])
    if step.implementation == "opencv":
        return _mix_as_opencv(pixels, resized, window)
    for axis in (1, 0):
        pixels = _mix_as_torch(pixels, axis, resized[axis], window[axis])
    return pixels


def _nearest(size: int, resized: int, step: Resize) -> NDArray[np.int64]:
    """Return which pixel of an axis each new one is."""
    position = np.arange(resized)
    if step.implementation == "opencv":
        # resizeNN in OpenCV's resize.cpp: the inverse of the inverse scale, in float64.
        index = np.floor(position * (1.0 / (resized / size)))
    else:
        # nearest_idx and nearest_exact_idx in ATen's UpSample.h: in float32.
        offset = np.float32(0.5 if step.interpolation == "nearest_exact" else 0.0)
        index = np.floor((position.astype(np.float32) + offset) * np.float32(size / resized))
    clipped: NDArray[np.int64] = index.astype(np.int64).clip(0, size - 1)
    return clipped


def _mix_as_opencv(
    pixels: NDArray[np.uint8], resized: tuple[int, int], window: tuple[slice, slice]
) -> NDArray[np.uint8]:
    """Mix both axes as ``HResizeLinear`` and ``VResizeLinear`` in OpenCV's resize.cpp do, rounding in between."""
    rows, columns = (_opencv_taps(pixels.shape[axis], resized[axis], axis, window[axis]) for axis in (0, 1))
    wide = []
    for row in (rows.near, rows.far):
        lines = pixels[row]
        mixed = lines[:, columns.near] * columns.near_weight[:, np.newaxis]
        wide.append(mixed + lines[:, columns.far] * columns.far_weight[:, np.newaxis])
    near, far = (
        (weight[:, np.newaxis, np.newaxis] * (mixed >> OPENCV_ROW_SHIFT)) >> OPENCV_COLUMN_SHIFT
        for weight, mixed in zip((rows.near_weight, rows.far_weight), wide, strict=True)
    )
    return ((near + far + (1 << (OPENCV_SUM_SHIFT - 1))) >> OPENCV_SUM_SHIFT).astype(np.uint8)


def _opencv_taps(size: int, resized: int, axis: int, window: slice) -> _Taps:
    position = np.arange(resized)[window]
    source = ((position + 0.5) * (1.0 / (resized / size)) - 0.5).astype(np.float32)
    near = np.floor(source)
    share = source - near
    if axis == 1:
        # Columns beyond an edge take the edge's pixel whole; rows there mix it with itself, which rounds otherwise.
        share[(near < 0) | (near >= size - 1)] = 0.0
    unit = np.float32(OPENCV_ONE)
    return _Taps(
        near=near.clip(0, size - 1).astype(np.int64),
        far=(near + 1).clip(0, size - 1).astype(np.int64),
        near_weight=np.rint((np.float32(1.0) - share) * unit).astype(np.int32),
        far_weight=np.rint(share * unit).astype(np.int32),
        bits=OPENCV_BITS,
    )


def _mix_as_torch(pixels: NDArray[np.uint8], axis: int, resized: int, window: slice) -> NDArray[np.uint8]:
    if pixels.shape[axis] == resized:
        return pixels[window] if axis == 0 else pixels[:, window]
    taps = _torch_taps(pixels.shape[axis], resized, window)
    shape = [1, 1, 1]
    shape[axis] = -1
    mixed = np.take(pixels, taps.near, axis=axis) * taps.near_weight.reshape(shape)
    mixed += np.take(pixels, taps.far, axis=axis) * taps.far_weight.reshape(shape)
    return ((mixed + (1 << (taps.bits - 1))) >> taps.bits).astype(np.uint8)


def _torch_taps(size: int, resized: int, window: slice) -> _Taps:
    """Return the taps of ``_compute_index_ranges_int16_weights`` in ATen's UpSampleKernel.cpp, without antialias."""
    source = np.maximum((np.arange(resized) + 0.5) * (size / resized) - 0.5, 0.0)
    near = np.minimum(np.floor(source).astype(np.int64), size - 1)
    far = np.minimum(near + 1, size - 1)
    # At the far edge both taps are one pixel, and so is their weight.
    share = np.where(near == far, 0.0, source - near)
    bits = precision_bits(float(np.maximum(share, 1.0 - share).max()))
    weights = [np.floor(weight * (1 << bits) + 0.5).astype(np.int32)[window] for weight in (1.0 - share, share)]
    return _Taps(near=near[window], far=far[window], near_weight=weights[0], far_weight=weights[1], bits=bits)
