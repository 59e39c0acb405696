"""Token sequences to a class: a character-level GRU that classifies Python names.

It distinguishes classes, functions and constants, and is trained in seconds on the names of the standard library.

    python examples/name_classifier.py build/examples/names
"""

import importlib
import inspect
import string
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import truecopy

KINDS = ("class", "function", "constant")
PAD = "<pad>"
CHARACTERS = (PAD, *string.ascii_letters, *string.digits, "_")
MODULES = (
    "argparse", "asyncio", "collections", "csv", "datetime", "email.message", "errno", "http.client", "inspect", "io",
    "ipaddress", "itertools", "logging", "math", "os", "pathlib", "pickle", "random", "shutil", "signal", "socket",
    "sqlite3", "ssl", "stat", "statistics", "string", "subprocess", "threading", "token", "typing", "zipfile",
)  # fmt: skip
EPOCHS = 4


class NameClassifier(nn.Module):
    """Characters, int64 [batch, length], to one logit per kind; padding at the end changes nothing."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(CHARACTERS), size, padding_idx=0)
        self.reader = nn.GRU(size, size, num_layers=2, batch_first=True)
        self.head = nn.Linear(2 * size, len(KINDS))

    def forward(self, names: Tensor) -> Tensor:
        is_padding = (names == 0).unsqueeze(2)
        states, _ = self.reader(self.characters(names))
        largest = states.masked_fill(is_padding, float("-inf")).amax(dim=1)
        mean = states.masked_fill(is_padding, 0.0).sum(dim=1) / (~is_padding).sum(dim=1)
        return self.head(torch.cat((largest, mean), dim=1))


def read_names() -> tuple[list[str], list[int]]:
    """Return the public names of some modules, and the index of the kind of each."""
    kind_of: dict[str, int] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            members = {member: getattr(module, member) for member in dir(module) if not member.startswith("_")}
        for member, value in members.items():
            if inspect.isclass(value):
                kind_of[member] = 0
            elif inspect.isroutine(value):
                kind_of[member] = 1
            elif isinstance(value, int | str):
                kind_of[member] = 2
    chosen = {name: kind for name, kind in sorted(kind_of.items()) if name.isascii()}
    return list(chosen), list(chosen.values())


def to_tokens(name: str) -> list[int]:
    return [CHARACTERS.index(character) for character in name]


def train(network: NameClassifier, names: list[str], kinds: list[int]) -> None:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    targets = torch.tensor(kinds)
    tokens = nn.utils.rnn.pad_sequence([torch.tensor(to_tokens(name)) for name in names], batch_first=True)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(names)).split(128):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(tokens[rows]), targets[rows])
            loss.backward()
            optimizer.step()


def main(folder: Path) -> dict[str, float]:
    """Train, export and compare; return the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    names, kinds = read_names()
    order = np.random.default_rng(0).permutation(len(names))
    testing, training = order[::5], np.delete(order, np.s_[::5])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on matrices this small, threads only wait for each other
    torch.manual_seed(0)
    network = NameClassifier()
    train(network, [names[row] for row in training], [kinds[row] for row in training])
    network.eval()
    torch.set_num_threads(threads)
    checkpoint, labels, vocabulary = folder / "names.pth", folder / "kinds.txt", folder / "characters.txt"
    torch.save(network.state_dict(), checkpoint)
    labels.write_text("".join(f"{kind}\n" for kind in KINDS))
    vocabulary.write_text("".join(f"{character}\n" for character in CHARACTERS))

    exported = truecopy.export(
        checkpoint,
        f"{__file__}:NameClassifier",
        inputs=["name=tokens[batch,length]"],
        vocabulary=vocabulary,
        labels=labels,
        out=folder / "artifact",
        force=True,
    )

    model = truecopy.load(exported.artifact)
    questions = [names[row] for row in testing]
    results = model.predict([to_tokens(name) for name in questions], top_k=len(KINDS))
    difference, agreed, right = 0.0, 0, 0
    for name, row, result in zip(questions, testing, results, strict=True):
        with torch.no_grad():
            expected = torch.softmax(network(torch.tensor([to_tokens(name)])), dim=-1)[0].numpy()
        scores = np.zeros(len(KINDS))
        for scored in result.top:
            scores[scored.index] = scored.probability
        difference = max(difference, float(np.abs(scores - expected).max()))
        agreed += result.index == int(expected.argmax())
        right += result.index == kinds[row]
    assert model.predict(list("getLogger")).index == model.predict(to_tokens("getLogger")).index
    return {
        "inputs": len(questions),
        "agreement": agreed / len(questions),
        "largest difference": difference,
        "accuracy": right / len(questions),
    }


if __name__ == "__main__":
    for name, figure in main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples/names")).items():
        print(f"{name}: {figure:g}")
