"""Plots of an evaluation as PNG: reliability diagram, confusion matrix."""

# The only file that imports matplotlib.

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.outputs.metrics import error_of_bins

# With more classes than this, their names do not fit on the axes.
_NAMED = 40


def draw_reliability(series: dict[str, Sequence[tuple[float, float, int]]]) -> bytes:
    """Return a reliability diagram as PNG: one line for each series of (confidence, share correct, count).

    The area of a dot is its share of the inputs: dots of few inputs tell little.
    """
    figure, axes = _figure(5, 5)
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":", label="perfectly calibrated")
    for name, points in series.items():
        confidence, correct, counts = zip(*points, strict=True)
        label = f"{name}: expected error {error_of_bins(points):.1%}"
        (line,) = axes.plot(confidence, correct, linewidth=0.8, label=label)
        sizes = [4 + 400 * count / sum(counts) for count in counts]
        axes.scatter(confidence, correct, s=sizes, color=line.get_color(), alpha=0.6, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share correct", aspect="equal")
    axes.legend(loc="upper left")
    return _to_png(figure)


def draw_confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> bytes:
    """Return a confusion matrix, its rows as shares of the true class, as PNG."""
    counts: NDArray[np.float64] = np.asarray(matrix, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(24.0, 3 + 0.3 * len(counts))
    figure, axes = _figure(side, side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    if len(counts) <= _NAMED:
        indices = range(len(counts))
        axes.set_xticks(indices, labels, rotation=90)
        axes.set_yticks(indices, labels)
        for row in indices:
            for column in indices:
                if counts[row, column]:
                    color = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=color)
    return _to_png(figure)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "pictures need matplotlib, which is not installed. Run: pip install 'truecopy[figures]'."
        ) from None
    # Without pyplot: no window, no state.
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _to_png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()
