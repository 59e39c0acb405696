"""Explanations of the stages of a parity check."""

from runtime.evidence import Stage

# The work of a stage, and the usual causes of a fault in it.
STAGE_TEXTS: dict[Stage, tuple[str, str]] = {
    "decode": (
        "The encoded input becomes numbers: the pixels of an image, the columns of a row.",
        "Look at the color mode, the rotation by EXIF, alpha and CMYK, and the order and types of columns.",
    ),
    "geometry": (
        "The image is resized, cropped and padded to what the network takes.",
        "Look at the filter, antialiasing, rounding of the long side and of the crop's corner, squash or crop.",
    ),
    "tokens": (
        "The text becomes token ids.",
        "Look at the tokenizer's files, its casing, truncation, padding and special tokens.",
    ),
    "arithmetic": (
        "Pixels or columns are scaled and normalized.",
        "Look at mean and standard deviation, the division by 255, and the order of the color channels.",
    ),
    "network": (
        "The network itself, on exactly the inputs of the original.",
        "Look at the weights, the train or eval mode, and the precision; find the first operator that differs.",
    ),
    "activation": (
        "The network's own outputs become scores.",
        "Look for a softmax or sigmoid that is missing, applied twice, or along another axis.",
    ),
    "labels": (
        "Scores become names.",
        "Look at the list of labels, its order, a shift by one, and the thresholds.",
    ),
    "end to end": (
        "All stages together, from the raw input to the scores that users see.",
        "If every other stage passes alone, look at how they are joined, and at batch sizes.",
    ),
}


def rule_of(stage: Stage) -> str:
    """Return the identifier of a stage's rule, in SARIF: ``parity/end-to-end``."""
    return f"parity/{stage.replace(' ', '-')}"
