"""How much difference is rounding, and where a real one begins.

Measured on 13 photos and odd images with EfficientNet-Lite0's real weights, resnet18 and mobilenet_v3_small.
"""

import msgspec


class PixelLimit(msgspec.Struct, frozen=True, kw_only=True):
    """Prepared pixels: the largest difference in grey levels, and the share of all pixels that may differ at all."""

    levels: int
    share: float


# The runtime's host geometry runs Pillow's own passes. onnxruntime's resize computes its weights in float32, torch's
# uint8 resize in 16-bit fixed point: either breaks ties at half a level the other way, in each of two passes. Typically
# 0.01 and 0.3% of the values; where the scale is a simple fraction (640 x 480 to 256, 28 x 28 to 32) whole images are
# made of ties, and bilinear came to 4.2 and 4.7% over 340 resizes of photos.
PIXEL_LIMITS = {
    "runtime": PixelLimit(levels=0, share=0.0),
    "model.onnx": PixelLimit(levels=2, share=0.05),
    "model.torchscript": PixelLimit(levels=2, share=0.05),
}

# Relative to the largest normalised value: a few roundings of float32, whose epsilon is 1.2e-7.
ARITHMETIC_LIMIT = 1e-6

# Probabilities for equal pixels; less where the outputs hardly vary, so that a flat output cannot hide a fault.
SCORE_LIMIT = 1e-4
SCORE_LIMIT_OF_SIGNAL = 0.01

# Probabilities from the raw image where pixels differ within their limits.
END_TO_END_LIMIT = 0.02

# Two labels whose probabilities in eager are closer than this are a near tie, and may swap.
NEAR_TIE = 0.02

# Over all inputs, some class's probability has to vary by at least this; below it a comparison shows nothing.
MINIMUM_SIGNAL = 1e-5


def score_limit(signal: float) -> float:
    """Return the largest difference in probability that is rounding, where probabilities vary by ``signal``."""
    return min(SCORE_LIMIT, SCORE_LIMIT_OF_SIGNAL * signal)
