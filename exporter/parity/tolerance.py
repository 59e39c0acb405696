"""How much difference is rounding, and where a real one begins.

EfficientNet-Lite0 with its real weights stays within 3e-6 of eager; random networks came to 6e-5.
"""

# Prepared pixels, in grey levels: every path runs the training transform's own arithmetic.
PIXEL_LIMIT = 0

# Relative to the largest normalised value: a few roundings of float32, whose epsilon is 1.2e-7.
ARITHMETIC_LIMIT = 1e-6

# Relative to the outputs' scale, which is 1 for probabilities; less where the outputs hardly vary, so that a flat one
# cannot hide a fault.
SCORE_LIMIT = 1e-4
SCORE_LIMIT_OF_SIGNAL = 0.01

# Over all inputs, something has to vary by at least this, relative to the scale; below it a comparison shows nothing.
MINIMUM_SIGNAL = 1e-5


def score_limit(signal: float, scale: float = 1.0) -> float:
    """Return the largest difference that is rounding, where outputs of ``scale`` vary by ``signal``."""
    return min(SCORE_LIMIT * scale, SCORE_LIMIT_OF_SIGNAL * signal)
