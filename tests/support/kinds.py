"""Tiny networks of every kind of input and task, each with the options of its export."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from support.modules import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torchvision import transforms

import exporter
from exporter.options.task import TaskOptions
from runtime.manifest import Value

NAMES = ("rows", "text", "left", "pair", "tokens", "segment", "multilabel", "binary", "regress", "raw")

FRAME = pd.DataFrame(
    {"age": [20.0, 40.0, np.nan, 60.0] * 9, "rooms": [1, 2, 3] * 12, "city": ["Bern", "Oslo", np.nan, "Rome"] * 9}
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A network and the options of its export; ``again`` are those that 'truecopy parity' needs again."""

    folder: Path
    name: str
    network: nn.Module
    options: Mapping[str, Any]
    again: Mapping[str, Any] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.pth"

    def export(self) -> exporter.ExportResult:
        torch.save(self.network.eval().state_dict(), self.checkpoint)
        return exporter.export(self.checkpoint, self.network, out=self.folder / self.name, **self.options)


class Bag(nn.Module):
    """The mean of the words' vectors, without padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8, padding_idx=0)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        kept = (input_ids != 0).unsqueeze(2).to(torch.float32)
        return 3 * self.head((self.words(input_ids) * kept).sum(dim=1) / kept.sum(dim=1))


class Pair(Bag):
    """The same with the sign turned in the second text."""

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        kept = (input_ids != 0).unsqueeze(2).to(torch.float32)
        sign = (1 - 2 * token_type_ids).unsqueeze(2)
        return 3 * self.head((self.words(input_ids) * kept * sign).sum(dim=1) / kept.sum(dim=1))


class Tagger(nn.Module):
    """A class for every token."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.words(tokens))


class Pixels(nn.Module):
    """A class for every pixel, and one number for all of them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.line = nn.Conv2d(3, classes, 1)
        with torch.no_grad():
            self.line.weight.mul_(9)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x)


class Mean(Pixels):
    """A number for every class of the whole picture."""

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x).mean(dim=(2, 3))


class Hidden(nn.Module):
    """Two arrays in, several out, as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(5, 3)

    def forward(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        hidden = torch.tanh(self.line(x))
        return {"hidden": hidden, "sum": (hidden * weight).sum(dim=1), "place": hidden.argmax(dim=1)}


def kinds_in(folder: Path) -> dict[str, Kind]:
    """Return the kinds by name; their files, and what they export, are in ``folder``."""
    torch.manual_seed(0)
    languages = load_file(Path(__file__).parents[1] / "data" / "languages.py")
    tokenizer, tags = folder / "tokenizer.json", folder / "tags.txt"
    languages.build_tokenizer(tokenizer)
    # Padding under an unusual name, on the left, as decoders have it.
    left = Tokenizer.from_file(str(tokenizer))
    left.enable_padding(direction="left", pad_id=0, pad_token="[UNK]")
    left.save(str(folder / "left.json"))
    tags.write_text("red\ngreen\nblue\nwhite\nblack\n")
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = ColumnTransformer(
        [
            ("age", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
            ("rooms", OneHotEncoder(), ["rooms"]),
            ("city", words, ["city"]),
        ]
    ).fit(FRAME)
    photo = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()])
    price = TaskOptions(
        task="regress", values=(Value(name="price", unit="EUR"),), target_mean=(100.0,), target_std=(20.0,)
    )
    arrays = ["x=float32[batch,5]", "weight=float32[batch,3]"]
    images: dict[str, Any] = {"preprocess": photo}
    described: dict[str, tuple[nn.Module, dict[str, Any], dict[str, Any]]] = {
        "rows": (nn.Linear(7, 1), {"preprocess": columns, "task_options": price}, {"preprocess": columns}),
        "text": (Bag(), {"tokenizer": tokenizer}, {}),
        "left": (Bag(), {"tokenizer": folder / "left.json"}, {}),
        "pair": (
            Pair(),
            {"tokenizer": tokenizer, "text_pairs": True, "task_options": TaskOptions(task="multilabel")},
            {},
        ),
        "tokens": (Tagger(), {"inputs": ["tokens=tokens[batch,length]"], "labels": tags}, {}),
        "segment": (Pixels(5), images | {"labels": tags, "task_options": TaskOptions(task="segment")}, images),
        "multilabel": (Mean(5), images | {"labels": tags, "task_options": TaskOptions(task="multilabel")}, images),
        "binary": (Mean(1), images | {"task_options": TaskOptions(task="binary")}, images),
        "regress": (Mean(1), images | {"task_options": price}, images),
        "raw": (Hidden(), {"inputs": arrays, "task_options": TaskOptions(task="raw")}, {}),
    }
    return {
        name: Kind(folder=folder, name=name, network=network, options=options, again=again)
        for name, (network, options, again) in described.items()
    }
