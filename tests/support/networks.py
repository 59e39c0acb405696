"""Small networks whose classes a pickle can name."""

from torch import Tensor, nn


class MeanThenHead(nn.Module):
    """The mean over a length, then one linear layer: float32 [batch, length, 4] to logits [batch, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(x.mean(dim=1))
        return logits
