"""Failures of torch.onnx: the reason in words, and what to do."""

import re

from exporter.errors import ConversionError

# In messages of torch.onnx: the operator that it cannot translate, its colors, and the start of a printed graph.
_OPERATOR = re.compile(r"translating node .*?target=torch\.ops\.(\w+\.\w+)")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_VALUES = " [Caused by"

# What this project says of a graph that a stated opset is too old for.
_NEWER_OPSET = re.compile(r"it needs opset (\d+)")

# What onnxruntime says of an input whose length dynamo fixed.
_FIXED_LENGTH = "Got invalid dimensions for input"


class OtherLengthError(ConversionError):
    """A graph is right for some inputs, and wrong for those of other lengths."""


def reason_of(error: Exception) -> str:
    """Return why an exporter failed: torch.onnx wraps the cause several times, in advice to its own developers."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    operator = next((match for cause in chain if (match := _OPERATOR.search(str(cause)))), None)
    lines = [line.strip() for line in _COLOR.sub("", str(chain[-1])).splitlines() if line.strip()]
    line = lines[0].partition(_VALUES)[0].rstrip(" .") if lines else ""
    if isinstance(chain[-1], ConversionError):  # our own, in words
        return line
    return (f"operator '{operator[1]}': " if operator else "") + f"{type(chain[-1]).__name__}: {line}".rstrip(": ")


def remedy_of(*failures: Exception) -> str:
    """Return what to do where neither exporter converts a network."""
    if any(isinstance(failure, OtherLengthError) or _FIXED_LENGTH in str(failure) for failure in failures):
        return (
            "It computes otherwise for other lengths, as behind a branch on a shape, or with a constant that is made "
            "of one or kept from an earlier call: compute with tensors of the input's own length, or name the lengths "
            "that it takes with --lengths."
        )
    newer = next((match for failure in failures if (match := _NEWER_OPSET.fullmatch(str(failure)))), None)
    if newer is not None:
        return f"Pass --opset {newer[1]}, or leave --opset out."
    return "Replace the operation that it names, or upgrade torch."
