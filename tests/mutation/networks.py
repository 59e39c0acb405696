"""The networks that faults are planted in: small ones, in which every part shows in the answers."""

import torch
from torch import Tensor, nn
from torchvision import transforms

_END = [transforms.ToTensor(), transforms.Normalize(mean=[0.45, 0.40, 0.35], std=[0.25, 0.22, 0.20])]
transform = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), *_END])
gray_transform = transforms.Compose(
    [
        transforms.Resize(40),
        transforms.CenterCrop(32),
        transforms.Grayscale(),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.42], std=[0.23]),
    ]
)


class Photo(nn.Module):
    """Convolutions with batch norm, a bottleneck with layer norm, a square layer, dropout."""

    def __init__(self, classes: int = 4, channels: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 12, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(12)
        self.activation = nn.SiLU()
        self.mean = nn.AvgPool2d(3, stride=2, padding=1)
        self.neck = nn.Linear(12 * 8 * 8, 16)
        self.neck_norm = nn.LayerNorm(16)
        self.smooth = nn.GELU()
        self.square = nn.Linear(16, 16)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.norm(self.first(x))))
        x = self.mean(self.activation(self.second_norm(self.second(x))))
        x = self.smooth(self.neck_norm(self.neck(x.flatten(1))))
        return self.head(self.dropout(self.square(x)))


class Places(nn.Module):
    """A class for every place, as torchvision's segmentation networks give it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        half = nn.functional.interpolate(torch.relu(self.first(x)), scale_factor=0.5, mode="bilinear")
        whole = nn.functional.interpolate(half, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return {"out": self.head(whole)}


class Rows(nn.Module):
    """A network of features."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, 12)
        self.head = nn.Linear(12, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.head(torch.tanh(self.first(x)))


class Text(nn.Module):
    """Attention over the tokens that the mask has, with places and the number of each one's text."""

    def __init__(self, words: int, classes: int = 3) -> None:
        super().__init__()
        self.tokens = nn.Embedding(words, 16)
        self.places = nn.Embedding(64, 16)
        self.parts = nn.Embedding(2, 16)
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        places = self.places(torch.arange(input_ids.shape[1], device=input_ids.device))
        x = self.tokens(input_ids) + places + self.parts(token_type_ids)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 4
        scores = scores.masked_fill(attention_mask[:, None, :] == 0, -1e9)
        x = self.norm(x + torch.softmax(scores, dim=-1) @ self.value(x))
        kept = attention_mask[:, :, None].to(x.dtype)
        return 2 * self.head((x * kept).sum(dim=1) / kept.sum(dim=1))


class Sequence(nn.Module):
    """A mean over the tokens that a mask has, after a convolution along them."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.line = nn.Conv1d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        kept = mask.unsqueeze(2).to(torch.float32)
        x = torch.relu(self.line((self.tokens(tokens) * kept).transpose(1, 2))).transpose(1, 2) * kept
        return 3 * self.head(x.sum(dim=1) / kept.sum(dim=1))


class Recurrent(nn.Module):
    """Two directions over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 12)
        self.reader = nn.GRU(12, 12, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.reader(self.tokens(tokens))
        return 4 * self.head(states.mean(dim=1))


class Reverser(nn.Module):
    """Greedy decoding: an encoder and a step."""

    start_id, end_id, max_steps = 1, 8, 9

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(12, 16)
        self.reader = nn.Linear(16, 16)
        self.cell = nn.GRUCell(16, 16)
        self.head = nn.Linear(16, 12)

    def encode(self, tokens: Tensor) -> Tensor:
        read = self.tokens(tokens)
        return torch.tanh(self.reader(read.mean(dim=1)) + 2 * read[:, -1])

    def step(self, token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.cell(self.tokens(token) / 4, 1.4 * state)
        return 3 * self.head(state), state

    def forward(self, tokens: Tensor) -> Tensor:
        state = self.encode(tokens)
        token = torch.full((tokens.shape[0],), self.start_id)
        given = []
        for _ in range(self.max_steps):
            logits, state = self.step(token, state)
            token = logits.argmax(dim=-1)
            given.append(token)
            if (torch.stack(given, dim=1) == self.end_id).any(dim=1).all():
                break
        return torch.stack(given, dim=1)


class Series(nn.Module):
    """Two outputs of like shape, for a series of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv1d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm1d(8)
        self.level = nn.Linear(8, 4)
        self.slope = nn.Linear(8, 4)

    def forward(self, series: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.norm(self.line(series)))
        return {"level": self.level(x.mean(dim=2)), "slope": self.slope(x.amax(dim=2))}
