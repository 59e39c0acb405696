"""What the eager model says: the side that is never wrong."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn

from exporter.errors import ConversionError, ParityError
from exporter.graphs import Activation
from exporter.parity.inputs import Case
from exporter.preprocessing import Reading

# Rows that sum to 1 within this are probabilities already: float32 sums of 1000 values are off by less.
_PROBABILITY_SUM = 1e-4


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The reference for some images, row by row.

    ``pixels`` uint8 [n, height, width, 3] and ``normalized`` float32 [n, 3, height, width] are the user's own
    transform's; ``scores`` float32 [n, classes] the eager network's, after ``activation``.
    """

    pixels: NDArray[np.uint8]
    normalized: NDArray[np.float32]
    scores: NDArray[np.float32]
    activation: Activation

    @property
    def classes(self) -> int:
        """The number of scores."""
        return int(self.scores.shape[1])


class Reference:
    """A freshly built eager network behind the user's own transform; nothing of the export has touched either."""

    def __init__(self, network: nn.Module, reading: Reading, *, exif: bool) -> None:
        self._network = network
        self._reading = reading
        self._exif = exif

    def answer(self, cases: Sequence[Case]) -> Answers:
        """Return the answers for encoded images, decoded as torchvision's loaders do: ``convert("RGB")``.

        Where the training loader turned photos by their EXIF orientation, that comes first.
        """
        images = []
        for case in cases:
            with Image.open(io.BytesIO(case.data)) as opened:
                upright = ImageOps.exif_transpose(opened) if self._exif else opened
                images.append(upright.convert("RGB"))
        return self._answer(images)

    def answer_arrays(self, images: NDArray[np.uint8]) -> Answers:
        """Return the answers for decoded images, uint8 [n, height, width, 3]."""
        return self._answer([Image.fromarray(image) for image in images])

    def _answer(self, images: Sequence[Image.Image]) -> Answers:
        normalized = torch.stack([self._reading.transform(image) for image in images])
        logits = self._logits(normalized)
        activation = _activation(logits)
        scores = torch.softmax(logits, dim=-1) if activation == "softmax" else logits
        return Answers(
            pixels=np.stack([self._reading.pixels(image) for image in images]),
            normalized=normalized.numpy(),
            scores=scores.numpy(),
            activation=activation,
        )

    def _logits(self, normalized: torch.Tensor) -> torch.Tensor:
        name = type(self._network).__name__
        try:
            with torch.no_grad():
                # One at a time: the reference does not depend on what else is in the batch.
                rows = [self._network(normalized[row : row + 1]) for row in range(len(normalized))]
        except Exception as error:  # the user's forward may raise anything
            raise ConversionError(
                f"'{name}': a forward pass on {list(normalized[:1].shape)} failed: {type(error).__name__}: {error}. "
                "Check that the transform prepares the size that the network was trained on."
            ) from error
        if not isinstance(rows[0], torch.Tensor) or rows[0].ndim != 2:
            got = list(rows[0].shape) if isinstance(rows[0], torch.Tensor) else type(rows[0]).__name__
            raise ConversionError(
                f"'{name}': not a classifier: expected one output [batch, classes], got {got}. "
                "Wrap it in a module whose forward returns the class scores."
            )
        logits = torch.cat(rows).to(torch.float32)
        if not torch.isfinite(logits).all():
            raise ParityError(
                f"'{name}': the eager model itself gives NaN or infinity. Check the checkpoint's weights and the "
                "transform's mean and std."
            )
        return logits


def _activation(logits: torch.Tensor) -> Activation:
    """Return what turns the network's output into probabilities: nothing, where it ends in a softmax already."""
    sums = logits.sum(dim=-1)
    are_probabilities = bool((logits >= 0).all()) and bool(((sums - 1).abs() < _PROBABILITY_SUM).all())
    return "none" if are_probabilities else "softmax"
