"""Odd networks: what people's own code has, and textbooks do not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import exporter
from exporter.options.export import TaskOptions
from sweeps.cases import describe_export

CLASSES = 5
_IMAGE = "x=float32[batch,3,24,24]"
_ROW = "x=float32[batch,12]"
_SERIES = "x=float32[batch,length,12]"
_TOKENS = "tokens=tokens[batch,length]"


def conv(channels: int, outputs: int, **options: Any) -> nn.Conv2d:
    """Return a convolution of 3 x 3 that keeps the size."""
    return nn.Conv2d(channels, outputs, 3, padding=1, **options)


def classifier(*body: nn.Module, features: int = 16, bias: bool = True) -> nn.Sequential:
    """Return a network of images: its body, the mean over the pixels, and a linear layer."""
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, CLASSES, bias=bias))


def table(outputs: int = CLASSES) -> nn.Sequential:
    """Return a network of rows with two layers."""
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, outputs))


class Deep(nn.Module):
    """Sixty residual layers, with a norm in each or in none."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(12, 32)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(32) if norm else nn.Identity(), nn.Linear(32, 32), nn.GELU()) for _ in range(60)
        )
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + 0.3 * block(x)
        return self.head(x)


class TiedAutoencoder(nn.Module):
    """A decoder with the encoder's weights, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(torch.tanh(self.encoder(x)), self.encoder.weight.T)


class TiedEmbedding(nn.Module):
    """A language model's head that is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.inner = nn.Linear(16, 16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.inner(self.embedding(tokens))).mean(dim=1))


class SharedBlock(nn.Module):
    """One layer that is called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.block, self.head = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(3):
            x = torch.tanh(self.block(x))
        return self.head(x)


class MaskedLogits(nn.Module):
    """Classes that are never allowed have the logit minus infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.body = table()
        self.register_buffer("banned", torch.tensor([False, True, False, False, True]))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).masked_fill(self.banned, float("-inf"))


class MaskedByInput(nn.Module):
    """Words that are not in the text have the logit minus infinity, as pointer networks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 16), nn.Linear(16, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        logits = self.head(self.embedding(tokens).mean(dim=1))
        present = (tokens[:, :, None] == torch.arange(20)).any(dim=1)
        return logits.masked_fill(~present, float("-inf"))


class CausalAttention(nn.Module):
    """Attention with a mask of minus infinity that is made in the forward, for any length."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(12, 2, batch_first=True), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        attended, _ = self.attention(x, x, x, attn_mask=mask, need_weights=False)
        return self.head(attended.mean(dim=1))


class LayerScaled(nn.Module):
    """Residual branches that start near zero, as LayerScale has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.head = nn.Linear(12, 32), nn.Linear(32, 32), nn.Linear(32, CLASSES)
        self.scale = nn.Parameter(torch.full((32,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(x + self.scale * self.branch(x).relu())


class WholeNumbers(nn.Module):
    """Counts as whole numbers, made floats in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.body = table()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(torch.log1p(x.abs().float()))


class LargeInputs(nn.Module):
    """Numbers in the hundred thousands, which the first layer scales down."""

    def __init__(self) -> None:
        super().__init__()
        self.body = table()

    def forward(self, x: Tensor) -> Tensor:
        return self.body((x * 1e5 + 3e5 - 3e5) * 1e-5)


class Recurrent(nn.Module):
    """A recurrent layer of either kind, over a length that varies."""

    def __init__(self, kind: str = "LSTM", *, both: bool = False, layers: int = 1) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(12, 16, layers, batch_first=True, bidirectional=both)
        self.head = nn.Linear(32 if both else 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.layer(x)
        return self.head(outputs.mean(dim=1))


class Variadic(nn.Module):
    """A forward that takes any number of inputs, as the wrappers of libraries do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = table()

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.body(sum(inputs[1:], inputs[0]))


def pruned() -> nn.Module:
    """Return a network most of whose weights are zero."""
    network = table()
    for layer in (network[0], network[2]):
        prune.remove(prune.l1_unstructured(layer, "weight", 0.9), "weight")
    return network


def spectral() -> nn.Module:
    """Return a network whose convolutions are divided by their largest singular value."""
    return classifier(
        parametrizations.spectral_norm(conv(3, 16)), nn.ReLU(), parametrizations.spectral_norm(conv(16, 16))
    )


def weighted() -> nn.Module:
    """Return a network of directions and lengths."""
    return classifier(parametrizations.weight_norm(conv(3, 16)), nn.ReLU())


@dataclass(frozen=True, kw_only=True)
class OddNetwork:
    """How one is built, what it takes, and what is done to its weights before they are saved."""

    build: Callable[[], nn.Module]
    inputs: Sequence[str] = (_ROW,)
    task: str | None = None
    change: Callable[[nn.Module], Any] = lambda _: None


def scale_head(factor: float) -> Callable[[nn.Module], None]:
    """Return a change that multiplies the last layer."""

    def change(network: nn.Module) -> None:
        *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
        with torch.no_grad():
            last.weight.mul_(factor)
            last.bias.mul_(factor)

    return change


def kill_classes(network: nn.Module) -> None:
    """Give all classes but two a logit of -30, whatever the input."""
    *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        last.weight[2:] = 0.0
        last.bias[2:] = -30.0


ODD: dict[str, OddNetwork] = {
    "deep, with norms": OddNetwork(build=Deep),
    "deep, without norms": OddNetwork(build=lambda: Deep(norm=False)),
    "wide": OddNetwork(build=lambda: nn.Sequential(nn.Linear(12, 16384), nn.ReLU(), nn.Linear(16384, CLASSES))),
    "no norm": OddNetwork(
        build=lambda: classifier(conv(3, 16), nn.ReLU(), conv(16, 16), nn.ReLU(), conv(16, 16)), inputs=(_IMAGE,)
    ),
    "tiny logits": OddNetwork(build=table, change=scale_head(1e-6)),
    "large logits": OddNetwork(build=table, change=scale_head(1e4)),
    "large outputs": OddNetwork(build=table, change=scale_head(1e6), task="regress"),
    "tied transposed": OddNetwork(build=TiedAutoencoder, task="raw"),
    "tied embedding": OddNetwork(build=TiedEmbedding, inputs=(_TOKENS,)),
    "shared layer": OddNetwork(build=SharedBlock),
    "half precision": OddNetwork(build=table, change=lambda network: network.half()),
    "bfloat16": OddNetwork(build=table, change=lambda network: network.bfloat16()),
    "dead classes": OddNetwork(build=table, change=kill_classes),
    "dead neurons": OddNetwork(build=table, change=lambda network: network[0].bias.data[::2].fill_(-50.0)),
    "pruned": OddNetwork(build=pruned),
    "masked logits": OddNetwork(build=MaskedLogits),
    "logits masked by the input": OddNetwork(build=MaskedByInput, inputs=(_TOKENS,)),
    "causal attention": OddNetwork(build=CausalAttention, inputs=(_SERIES,)),
    "no bias": OddNetwork(build=lambda: classifier(conv(3, 16, bias=False), nn.ReLU(), bias=False), inputs=(_IMAGE,)),
    "one class": OddNetwork(build=lambda: table(1), task="binary"),
    "one value": OddNetwork(build=lambda: nn.Sequential(table(1), nn.Flatten(0)), task="regress"),
    "spectral norm": OddNetwork(build=spectral, inputs=(_IMAGE,)),
    "weight norm": OddNetwork(build=weighted, inputs=(_IMAGE,)),
    "grouped convolutions": OddNetwork(
        build=lambda: classifier(conv(3, 12, groups=3), nn.ReLU(), conv(12, 16, groups=4)), inputs=(_IMAGE,)
    ),
    "group and instance norm": OddNetwork(
        build=lambda: classifier(conv(3, 16), nn.InstanceNorm2d(16), nn.SiLU(), conv(16, 16), nn.GroupNorm(4, 16)),
        inputs=(_IMAGE,),
    ),
    "one pixel out": OddNetwork(
        build=lambda: nn.Sequential(conv(3, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, CLASSES, 1)),
        inputs=(_IMAGE,),
        task="raw",
    ),
    "transposed convolution": OddNetwork(
        build=lambda: nn.Sequential(conv(3, 8), nn.Hardswish(), nn.ConvTranspose2d(8, 2, 4, 2, 1)),
        inputs=(_IMAGE,),
        task="raw",
    ),
    "layer scale": OddNetwork(build=LayerScaled),
    "log-probabilities": OddNetwork(build=lambda: nn.Sequential(table(), nn.LogSoftmax(dim=-1))),
    "saturated sigmoids": OddNetwork(build=table, change=scale_head(60.0), task="multilabel"),
    "whole numbers": OddNetwork(build=WholeNumbers, inputs=("x=int64[batch,12]",)),
    "large inputs": OddNetwork(build=LargeInputs),
    "several inputs": OddNetwork(build=Variadic, inputs=("first=float32[batch,12]", "second=float32[batch,12]")),
    "LSTM": OddNetwork(build=Recurrent, inputs=(_SERIES,)),
    "GRU in two layers, both ways": OddNetwork(build=lambda: Recurrent("GRU", both=True, layers=2), inputs=(_SERIES,)),
    "RNN": OddNetwork(build=lambda: Recurrent("RNN"), inputs=(_SERIES,)),
}


def odd(name: str, folder: Path) -> dict[str, Any]:
    """Export an odd network; return the verdict and the figures."""
    about = ODD[name]
    torch.manual_seed(0)
    network = about.build().eval()
    about.change(network)
    torch.save(network.state_dict(), folder / "model.pth")
    architecture = about.build().eval()
    return describe_export(
        lambda: exporter.export(
            folder / "model.pth",
            architecture,
            inputs=about.inputs,
            task_options=TaskOptions(task=about.task),
            out=folder / "artifact",
        ),
        recurrent=any(isinstance(module, nn.RNNBase) for module in network.modules()),
    )
