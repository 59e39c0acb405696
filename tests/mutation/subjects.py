"""What faults are planted in: a checkpoint of each kind of input and task, and how it is exported."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
import torch
from mutation import networks
from PIL import ExifTags, Image
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from exporter.inputs.text.adapter import _TEXTS, _WORDS
from exporter.options.task import TaskOptions
from runtime.manifest import Value

NETWORKS = Path(networks.__file__)
LABELS = ("cat", "coffee", "rocket", "astronaut")
PHOTOS = ("chelsea", "coffee", "rocket", "astronaut")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """How a checkpoint is exported; ``probes`` are inputs beyond the gate's own, in their encoded form."""

    options: dict[str, Any]
    probes: tuple[bytes, ...] = field(default=())


def photos() -> list[Image.Image]:
    folder = files("exporter.parity") / "photos"
    return [Image.open(io.BytesIO((folder / f"{name}.jpg").read_bytes())).convert("RGB") for name in PHOTOS]


def build(name: str, folder: Path) -> Subject:
    """Write the files of a subject into ``folder``, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    return SUBJECTS[name](folder)


def _save(network: nn.Module, folder: Path) -> Path:
    torch.save(network.eval().state_dict(), folder / "model.pth")
    return folder / "model.pth"


def _photo(folder: Path, *, classes: int = 4, channels: int = 3, large: bool = False, **more: Any) -> Subject:
    transform = networks.transform if channels == 3 else networks.gray_transform
    images = torch.stack([transform(photo) for photo in photos()])
    network = networks.Photo(classes, channels)
    _give_signal(network, images)
    if large:
        # As networks without normalized inputs have it: activations in the hundred thousands, scaled back by the norm.
        with torch.no_grad():
            network.first.weight.mul_(3e5)
            network.norm.running_mean.mul_(3e5)
            network.norm.running_var.mul_(9e10)
    (folder / "names.txt").write_text("".join(f"{label}\n" for label in LABELS[: max(classes, 2)]))
    options = {
        "checkpoint": _save(network, folder),
        "arch": f"{NETWORKS}:Photo",
        "arguments": {"classes": classes, "channels": channels},
        "preprocess": f"{NETWORKS}:{'transform' if channels == 3 else 'gray_transform'}",
        "labels": folder / "names.txt",
        **more,
    }
    return Subject(options=options, probes=tuple(_odd_photos()))


def _give_signal(network: nn.Module, images: torch.Tensor) -> None:
    """Make a random network's outputs vary: true batch statistics, then a centered and scaled last layer."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        module.momentum = None
    crops = torch.cat([images, images.flip(2), images.flip(3), images.roll(9, 3)])
    with torch.no_grad():
        network.train()
        network.dropout.eval()  # type: ignore[operator, union-attr]
        network(crops)
        network.eval()
        logits = network(crops)
        scale = 2.5 / logits.std(dim=0).mean()
        network.head.bias.sub_(logits.mean(dim=0)).mul_(scale)  # type: ignore[operator, union-attr]
        network.head.weight.mul_(scale)  # type: ignore[operator, union-attr]


def _odd_photos() -> list[bytes]:
    """Return what loaders disagree about: alpha, palettes, CMYK, 16 bits, gray, EXIF, a large JPEG."""
    photo = photos()[0].resize((96, 64))
    ramp = Image.linear_gradient("L").resize(photo.size)
    alpha = photo.copy()
    alpha.putalpha(ramp)
    deep = Image.fromarray((np.asarray(photo.convert("L")).astype(np.uint16) * 257)[:, :])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    made: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (alpha, "PNG", {}),
        (photo.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", {}),
        (photo.convert("CMYK"), "JPEG", {"quality": 95}),
        (deep, "PNG", {}),
        (photo, "JPEG", {"quality": 95, "exif": exif}),
        (photos()[1], "JPEG", {"quality": 95}),
    ]
    encoded = []
    for image, kind, options in made:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        encoded.append(stream.getvalue())
    return encoded


def _photo_of_any_size(folder: Path) -> Subject:
    """Return the network of photos, with large and odd photos as probes: noise shows any weight and any order."""
    made = []
    for height, width, kind in ((1200, 1600, "JPEG"), (300, 4200, "PNG"), (4200, 300, "PNG"), (600, 300, "PNG")):
        noise = np.random.default_rng(height).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((width, height), Image.Resampling.NEAREST)
        stream = io.BytesIO()
        image.save(stream, kind)
        made.append(stream.getvalue())
    subject = _photo(folder)
    return Subject(options=subject.options, probes=(*subject.probes, *made))


def _segment(folder: Path) -> Subject:
    network = networks.Places()
    images = torch.stack([networks.transform(photo) for photo in photos()])
    with torch.no_grad():
        logits = network(images)["out"]
        scale = 2.0 / logits.std()
        network.head.bias.sub_(logits.mean(dim=(0, 2, 3))).mul_(scale)
        network.head.weight.mul_(scale)
    return Subject(
        options={
            "checkpoint": _save(network, folder),
            "arch": f"{NETWORKS}:Places",
            "preprocess": f"{NETWORKS}:transform",
            "task_options": TaskOptions(task="segment"),
        }
    )


def people(rows: int = 200) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "salary": generator.normal(1e6, 3.0, rows),
            "age": generator.normal(45.0, 12.0, rows),
            "debt": generator.normal(40.0, 9.0, rows),
            "city": generator.choice(["Bern", "Oslo", "Rome"], rows, p=[0.2, 0.5, 0.3]).astype(object),
        }
    )
    frame.loc[3, "age"] = np.nan
    frame.loc[5, "city"] = np.nan
    return frame


def _rows(folder: Path, outputs: int, **more: Any) -> Subject:
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    table = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["salary", "age", "debt"]),
            ("words", words, ["city"]),
        ]
    ).fit(people())
    skops.io.dump(table, folder / "transform.skops")
    return Subject(
        options={
            "checkpoint": _save(networks.Rows(6, outputs), folder),
            "arch": f"{NETWORKS}:Rows",
            "arguments": {"features": 6, "outputs": outputs},
            "preprocess": str(folder / "transform.skops"),
            **more,
        }
    )


def _text(folder: Path, **more: Any) -> Subject:
    split = pre_tokenizers.BertPreTokenizer()
    known = sorted(
        {
            word
            for text in (*_TEXTS[:4], *_WORDS)
            for word, _ in split.pre_tokenize_str(normalizers.StripAccents().normalize_str(text.lower()))
        }
    )
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *known, "naïve", "café", "Good", "It"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = split
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(24)
    tokenizer.save(str(folder / "tokenizer.json"))
    network = networks.Text(len(words))
    return Subject(
        options={
            "checkpoint": _save(network, folder),
            "arch": f"{NETWORKS}:Text",
            "arguments": {"words": len(words)},
            "tokenizer": folder / "tokenizer.json",
            **more,
        }
    )


def _tokens(folder: Path, name: str, *inputs: str, seed: int = 0, **more: Any) -> Subject:
    torch.manual_seed(seed)
    network = getattr(networks, name)()
    options = {"checkpoint": _save(network, folder), "arch": f"{NETWORKS}:{name}", "inputs": inputs}
    return Subject(options={**options, **more})


def _series(folder: Path) -> Subject:
    network = networks.Series()
    with torch.no_grad():
        network.train()
        network(torch.randn(8, 3, 20))
    options = {"inputs": ("series=float32[batch,3,time]",), "task_options": TaskOptions(task="raw")}
    return Subject(options={"checkpoint": _save(network, folder), "arch": f"{NETWORKS}:Series", **options})


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "photo": _photo,
    "photo, turned by EXIF": lambda folder: _photo(folder, exif=True),
    "photo of any size": _photo_of_any_size,
    "photo, gray": lambda folder: _photo(folder, channels=1, pixel_format="RGB"),
    "photo, large activations": lambda folder: _photo(folder, large=True),
    "photo, several labels": lambda folder: _photo(
        folder, task_options=TaskOptions(task="multilabel", thresholds=(0.3, 0.5, 0.6, 0.4))
    ),
    "photo, yes or no": lambda folder: _photo(folder, classes=1, task_options=TaskOptions(task="binary")),
    "photo, every place": _segment,
    "row": lambda folder: _rows(folder, 3),
    "row to values": lambda folder: _rows(
        folder,
        2,
        task_options=TaskOptions(
            task="regress",
            values=(Value(name="price", unit="EUR"), Value(name="area", unit="m2")),
            target_mean=(100.0, 20.0),
            target_std=(30.0, 5.0),
        ),
    ),
    "text": _text,
    "pair of texts": lambda folder: _text(folder, text_pairs=True),
    "tokens": lambda folder: _tokens(
        folder, "Sequence", "tokens=tokens[batch,length]", "mask=mask[batch,length]", pad_id=0
    ),
    "tokens, recurrent": lambda folder: _tokens(folder, "Recurrent", "tokens=tokens[batch,length]"),
    "tokens to tokens": lambda folder: _tokens(
        folder, "Reverser", "tokens=tokens[batch,length]", seed=1, task_options=TaskOptions(task="tokens", end_id=8)
    ),
    "series, two outputs": _series,
}
