"""torch's antialiased resize of uint8 arrays, to the last bit, without torch.

For models that were trained on tensors resized by torchvision's v2: torch rounds weights to fewer bits than Pillow, and
is 1 or 2 gray levels off it on up to 5% of the pixels.
"""

import numpy as np
from numpy.typing import NDArray

from runtime.geometry.filters import PRECISION_BITS, SUPPORT, TORCH_WEIGHT_LIMIT
from runtime.manifest import Interpolation

# Output pixels per band: more of them make larger and faster products, with more zeros in them.
_BAND = 32


def resample_array(
    pixels: NDArray[np.uint8], interpolation: Interpolation, *, axis: int, resized: int, start: int, length: int
) -> NDArray[np.uint8]:
    """Return uint8 ``pixels`` [height, width, channels] with ``axis`` (0 or 1) resized to ``resized`` pixels.

    Only ``length`` pixels from ``start`` on are computed.
    """
    size = pixels.shape[axis]
    if size == resized:
        window = [slice(None), slice(None)]
        window[axis] = slice(start, start + length)
        return pixels[tuple(window)]
    weights, first = _weights(size, resized, interpolation)
    taps = weights.shape[1]
    shape = list(pixels.shape)
    shape[axis] = length
    resampled = np.empty(shape, np.uint8)
    for band in range(start, start + length, _BAND):
        outputs = range(band, min(band + _BAND, start + length))
        origin, end = int(first[outputs[0]]), int(first[outputs[-1]]) + taps
        matrix = np.zeros((end - origin, len(outputs)))
        for column, output in enumerate(outputs):
            offset = int(first[output]) - origin
            matrix[offset : offset + taps, column] = weights[output]
        matrix = matrix[: size - origin]
        if axis == 0:
            span = pixels[origin : origin + len(matrix)]
            product = matrix.T @ span.reshape(len(span), -1).astype(np.float64)
            rows = product.reshape(len(outputs), *span.shape[1:])
            resampled[band - start : band - start + len(outputs)] = _rounded(rows)
        else:
            block = pixels[:, origin : origin + len(matrix)].transpose(0, 2, 1).astype(np.float64)
            columns: NDArray[np.float64] = (block @ matrix).transpose(0, 2, 1)
            resampled[:, band - start : band - start + len(outputs)] = _rounded(columns)
    return resampled


def _rounded(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return gray levels as bytes, band by band: the floats of a whole image would take eight times its memory."""
    return np.floor(levels + 0.5).clip(0.0, 255.0).astype(np.uint8)


def _weights(size: int, resized: int, interpolation: Interpolation) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return each output pixel's weights, [resized, taps], and the input pixel that the first of them is for."""
    scale = size / resized
    stretch = max(scale, 1.0)
    support = SUPPORT[interpolation] * stretch
    center = (np.arange(resized) + 0.5) * scale
    first = np.maximum(np.floor(center - support + 0.5), 0.0)
    end = np.minimum(np.floor(center + support + 0.5), size)
    source = first[:, np.newaxis] + np.arange(int((end - first).max()))
    distance = np.abs((source - center[:, np.newaxis] + 0.5) / stretch)
    weights = np.where(source < end[:, np.newaxis], _kernel(distance, interpolation), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    unit = 1 << precision_bits(float(weights.max()))
    return np.sign(weights) * np.floor(np.abs(weights) * unit + 0.5) / unit, first.astype(np.int64)


def precision_bits(largest: float) -> int:
    """Return in how many bits the largest weight still fits into an int16, as torch chooses them."""
    return sum(int(0.5 + largest * (1 << bits)) < TORCH_WEIGHT_LIMIT for bits in range(1, PRECISION_BITS + 1))


def _kernel(x: NDArray[np.float64], interpolation: Interpolation) -> NDArray[np.float64]:
    if interpolation == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
