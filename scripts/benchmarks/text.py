"""Raw sentences to labels, against transformers with eager PyTorch on the same threads: batches of 1 and 32.

In every round each contest runs twice, with either side first once, so that other load of the machine affects both; the
figures are the medians of the rounds, with the middle half of them. A busy machine moves wall time far more than
processor time on one thread: where the wall-time figures are scattered, trust the other.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import text_classifier
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import exporter
import runtime
from benchmarks.figures import Figure, Results
from benchmarks.timing import alternate
from runtime.engine.cpu import usable_cores

FLOOR = 1.3
WORK = Path("build/bench-text")

# Wall and processor seconds of the first side and of the second.
Cost = tuple[float, float]
Pair = tuple[Cost, Cost]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=usable_cores())


def measure(options: argparse.Namespace) -> Results:
    """Return the figures of each contest."""
    threads = options.threads
    sentences, groups = text_classifier.read_sentences()
    folder, artifact = WORK / "classifier", WORK / "artifact"
    if not artifact.is_dir():
        text_classifier.train(folder, sentences[::4], groups[::4])
        exporter.export(folder, f"hf:{folder}", out=artifact)

    torch.set_num_threads(threads)
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = runtime.load(artifact, device="cpu", threads=threads)

    def eager(texts: list[str]) -> list[str]:
        with torch.inference_mode():
            encoded = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            best = torch.softmax(network(**encoded).logits, dim=-1).argmax(dim=-1)
        return [network.config.id2label[index] for index in best.tolist()]

    texts = sentences[:: max(1, len(sentences) // 64)][:64]
    batches = [texts[start : start + 32] for start in range(0, len(texts), 32)]
    lengths = sorted(len(ids) for ids in tokenizer(texts)["input_ids"])
    assert eager(texts) == [result.label for result in model.predict(texts)]

    contests: dict[str, tuple[Callable[[], object], Callable[[], object], float]] = {
        "batch 1": (
            lambda: [eager([text]) for text in texts],
            lambda: [model.predict(text) for text in texts],
            FLOOR,
        ),
        "batch 32": (
            lambda: [eager(batch) for batch in batches],
            lambda: [model.predict(batch) for batch in batches],
            FLOOR,
        ),
        "mixed batches against one by one": (
            lambda: [model.predict(text) for text in texts],
            lambda: [model.predict(batch) for batch in batches],
            1.0,
        ),
    }
    turns = [lambda first=first, second=second: both_orders(first, second) for first, second, _ in contests.values()]
    rounds = alternate(turns, options.rounds)
    figures = [
        to_figure(name, [pair for pairs in of_contest for pair in pairs], len(texts), floor)
        for (name, (_, _, floor)), of_contest in zip(contests.items(), rounds, strict=True)
    ]
    note = f"{len(texts)} sentences of {lengths[0]} to {lengths[-1]} tokens, {threads} threads, {options.rounds} rounds"
    return Results(figures=figures, tables=[note])


def both_orders(first: Callable[[], object], second: Callable[[], object]) -> tuple[Pair, Pair]:
    """Return the costs of both sides, once with either of them first."""
    forth = (cost(first), cost(second))
    back = (cost(second), cost(first))
    return forth, back[::-1]


def to_figure(name: str, pairs: list[Pair], count: int, floor: float) -> Figure:
    """Return the ratio of a contest: the first side's time over the second's."""
    (low, ratio, high), (_, busy, _) = (
        statistics.quantiles((first[unit] / second[unit] for first, second in pairs), n=4) for unit in (0, 1)
    )
    rates = [count / statistics.median(wall for wall, _ in side) for side in zip(*pairs, strict=True)]
    return Figure(
        promise=f"texts, {name}",
        measured=f"{ratio:.2f} times the throughput (half of the rounds from {low:.2f} to {high:.2f}; "
        f"{rates[0]:.0f} and {rates[1]:.0f} sentences/s); {busy:.2f} times less processor time",
        target=f"{floor:g} times",
        met=ratio >= floor,
    )


def cost(call: Callable[[], object]) -> Cost:
    """Return the wall time and the processor time of a call in seconds; other processes disturb the latter less."""
    start, busy = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - busy
