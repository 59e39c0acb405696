"""Time series of any length to several arrays: a forecast per step, and the last state.

python examples/series.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import truecopy


class Forecast(nn.Module):
    """The next value after each one, from a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 12, batch_first=True)
        self.head = nn.Linear(12, 1)

    def forward(self, series: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the forecasts [batch, length] and the last state [batch, 12] for a series [batch, length, 1]."""
        states, _ = self.gru(series)
        return {"forecast": self.head(states).squeeze(-1), "state": states[:, -1]}


def waves(count: int, length: int) -> torch.Tensor:
    """Return sine waves of different phase and speed, float32 [count, length, 1]."""
    generator = torch.Generator().manual_seed(length)
    phase, speed = torch.rand(count, 1, generator=generator) * 6, torch.rand(count, 1, generator=generator) * 0.3 + 0.2
    return torch.sin(phase + speed * torch.arange(length))[..., None]


def main(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Train, export, and return the eager forecasts and the artifact's, over series of many lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = Forecast()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        series = waves(32, 25)
        optimizer.zero_grad()
        nn.functional.mse_loss(network(series[:, :-1])["forecast"], series[:, 1:, 0]).backward()
        optimizer.step()
    network.eval()
    torch.save(network.state_dict(), folder / "forecast.pth")
    truecopy.export(
        folder / "forecast.pth",
        network,
        inputs=["series=float32[batch,length,1]"],
        task="raw",
        out=folder / "artifact",
        force=True,
    )
    series = [waves(1, length)[0] for length in (1, 2, 24, 100, 7, 24)]
    with torch.no_grad():
        eager = [network(values[None])["forecast"][0].numpy() for values in series]
    results = truecopy.load(folder / "artifact").predict([values.numpy() for values in series])
    return np.concatenate(eager), np.concatenate([result.outputs["forecast"] for result in results])


if __name__ == "__main__":
    eager, artifact = main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples/series"))
    print(f"6 series, largest difference {np.abs(eager - artifact).max():.1e}")
