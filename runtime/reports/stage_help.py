"""What the stages are, in words for people who have not read the documentation."""

from runtime.evidence import Stage

# What happens in a stage, and where to look when it is at fault.
STAGE_TEXTS: dict[Stage, tuple[str, str]] = {
    "decode": (
        "The encoded input becomes numbers: an image its pixels, a row its columns.",
        "Look at the color mode, the rotation by EXIF, alpha and CMYK, and the order and types of columns.",
    ),
    "geometry": (
        "The image is resized, cropped and padded to what the network takes.",
        "Look at the filter, antialiasing, rounding of the long side and of the crop's corner, squash or crop.",
    ),
    "tokens": (
        "The text becomes token numbers.",
        "Look at the tokenizer's files, its casing, truncation, padding and special tokens.",
    ),
    "arithmetic": (
        "Pixels or columns are scaled and normalised.",
        "Look at mean and standard deviation, the division by 255, and the order of the color channels.",
    ),
    "network": (
        "The network itself, given exactly what the original is given.",
        "Look at the weights, train against eval mode, and the precision; see which operator is first to differ.",
    ),
    "activation": (
        "The network's own outputs become scores.",
        "Look for a softmax or sigmoid that is missing, is there twice, or works along another axis.",
    ),
    "labels": (
        "Scores become names.",
        "Look at the list of labels, its order, a shift by one, and the thresholds.",
    ),
    "end to end": (
        "Everything together, from the raw input to the scores: what a user sees.",
        "Where the stages before it pass alone, look at how they are joined, and at sizes of batches.",
    ),
}


def rule_of(stage: Stage) -> str:
    """Return the identifier of a stage's rule, in SARIF and in annotations: ``parity/end-to-end``."""
    return f"parity/{stage.replace(' ', '-')}"
