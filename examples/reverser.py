"""Token sequences to token sequences: a seq2seq network that reverses digits, decoded greedily in the graph.

python examples/reverser.py build/examples/reverser
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import truecopy

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
START, END = 10, 11
LONGEST = 5
STEPS = 250


class Reverser(nn.Module):
    """Digits, int64 [batch, length], to the digits in reverse and an end token, int64 [batch, steps].

    ``forward`` calls ``encode`` once and ``step`` repeatedly; truecopy exports them as encoder and body of a Loop.
    """

    start_id, end_id, max_steps = START, END, 2 * LONGEST

    def __init__(self, size: int = 48) -> None:
        super().__init__()
        self.tokens = nn.Embedding(12, size)
        self.reader = nn.GRU(size, size, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * size, size)
        self.writer = nn.GRUCell(3 * size, size)
        self.query = nn.Linear(size, 2 * size)
        self.head = nn.Linear(3 * size, 12)

    def encode(self, digits: Tensor) -> tuple[Tensor, Tensor]:
        memory, last = self.reader(self.tokens(digits))
        return memory, torch.tanh(self.bridge(torch.cat((last[0], last[1]), dim=1)))

    def step(self, token: Tensor, memory: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights = torch.softmax(torch.bmm(memory, self.query(state).unsqueeze(2)).squeeze(2), dim=1)
        context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
        state = self.writer(torch.cat((self.tokens(token), context), dim=1), state)
        return self.head(torch.cat((state, context), dim=1)), memory, state

    def forward(self, digits: Tensor) -> Tensor:
        memory, state = self.encode(digits)
        token = torch.full((digits.shape[0],), self.start_id)
        done = torch.zeros_like(token, dtype=torch.bool)
        tokens = []
        for _ in range(self.max_steps):
            logits, memory, state = self.step(token, memory, state)
            token = logits.argmax(dim=-1)
            tokens.append(token)
            done |= token == self.end_id
            if done.all():
                break
        return torch.stack(tokens, dim=1)


def train(network: Reverser) -> None:
    """Train with teacher forcing, on lengths from 1 to the longest in turn."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=STEPS)
    for step in range(STEPS):
        length = 1 + step % LONGEST
        digits = torch.randint(0, 10, (64, length))
        targets = torch.cat((digits.flip(1), torch.full((64, 1), END)), dim=1)
        memory, state = network.encode(digits)
        token, loss = torch.full((64,), START), torch.zeros(())
        for index in range(length + 1):
            logits, memory, state = network.step(token, memory, state)
            loss = loss + nn.functional.cross_entropy(logits, targets[:, index])
            token = targets[:, index]
        optimizer.zero_grad()
        (loss / (length + 1)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def main(folder: Path) -> dict[str, float]:
    """Train, export and compare; return the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on matrices this small, threads only wait for each other
    torch.manual_seed(0)
    network = Reverser()
    train(network)
    network.eval()
    torch.set_num_threads(threads)
    checkpoint, words = folder / "reverser.pth", folder / "words.txt"
    torch.save(network.state_dict(), checkpoint)
    words.write_text("".join(f"{word}\n" for word in (*WORDS, "<start>", "<end>")))

    exported = truecopy.export(
        checkpoint,
        f"{__file__}:Reverser",
        inputs=["digits=tokens[batch,length]"],
        vocabulary=words,
        labels=words,
        out=folder / "artifact",
        force=True,
    )

    model = truecopy.load(exported.artifact)
    generator = np.random.default_rng(1)
    inputs = [generator.integers(0, 10, 1 + row % LONGEST) for row in range(200)]
    results = model.predict(inputs)
    agreed = right = 0
    for digits, result in zip(inputs, results, strict=True):
        expected = network(torch.from_numpy(digits[np.newaxis]))[0].tolist()
        expected = expected[: expected.index(END)] if END in expected else expected
        agreed += list(result.tokens) == expected
        right += list(result.tokens) == digits[::-1].tolist()
    assert model.predict("one two three").words == ("three", "two", "one")
    return {"inputs": len(inputs), "agreement": agreed / len(inputs), "accuracy": right / len(inputs)}


if __name__ == "__main__":
    for name, figure in main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples/reverser")).items():
        print(f"{name}: {figure:g}")
