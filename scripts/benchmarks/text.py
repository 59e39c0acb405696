"""Raw sentence to label, against transformers with eager PyTorch on the same threads: batches of 1 and 32.

In every round each contest runs twice, either side first once, so that what else the machine does meets both; the
figures are the medians of the rounds, with the middle half of them. A busy machine moves the clock far more than
processor time on one thread: where the clock's figures are scattered, believe the other.

    scripts/bench-text [--rounds 15] [--threads 2]
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import exporter
import runtime
from runtime.engine.cpu import usable_cores

FLOOR = 1.3
WORK = Path("build/bench-text")


def load_example() -> object:
    spec = importlib.util.spec_from_file_location("text_classifier", Path("scripts/examples/text_classifier.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cost(call: Callable[[], object]) -> tuple[float, float]:
    """Return seconds by the clock, and seconds of the processor, which other processes disturb less."""
    start, busy = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=usable_cores())
    options = parser.parse_args()
    rounds, threads = options.rounds, options.threads

    example = load_example()
    sentences, groups = example.read_sentences()
    folder, artifact = WORK / "classifier", WORK / "artifact"
    if not artifact.is_dir():
        example.train(folder, sentences[::4], groups[::4])
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
    lengths = sorted(len(ids) for ids in tokenizer(texts)["input_ids"])
    print(f"{len(texts)} sentences of {lengths[0]} to {lengths[-1]} tokens, {threads} threads, {rounds} rounds")
    assert eager(texts) == [result.label for result in model.predict(texts)]

    contests: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "batch 1": (lambda: [eager([text]) for text in texts], lambda: [model.predict(text) for text in texts]),
        "batch 32": (
            lambda: [eager(texts[start : start + 32]) for start in range(0, len(texts), 32)],
            lambda: [model.predict(texts[start : start + 32]) for start in range(0, len(texts), 32)],
        ),
        "mixed batches against one by one": (
            lambda: [model.predict(text) for text in texts],
            lambda: [model.predict(texts[start : start + 32]) for start in range(0, len(texts), 32)],
        ),
    }
    pairs: dict[str, list[tuple[tuple[float, float], tuple[float, float]]]] = {name: [] for name in contests}
    for turn in range(rounds + 1):
        for name, (before, after) in contests.items():
            forth = (cost(before), cost(after))
            back = (cost(after), cost(before))
            if turn:  # the first is to warm up
                pairs[name] += [forth, back[::-1]]
    for name, found in pairs.items():
        (low, ratio, high), (_, busy, _) = (
            statistics.quantiles((one[unit] / other[unit] for one, other in found), n=4) for unit in (0, 1)
        )
        rates = [len(texts) / statistics.median(one[0] for one in column) for column in zip(*found, strict=True)]
        floor = 1.0 if "mixed" in name else FLOOR
        verdict = "" if ratio >= floor else f", under the floor of {floor:g}"
        print(
            f"{name}: {ratio:.2f} times the throughput (half of the rounds from {low:.2f} to {high:.2f}; "
            f"{rates[0]:.0f} and {rates[1]:.0f} sentences/s){verdict}; {busy:.2f} times less processor time"
        )


if __name__ == "__main__":
    main()
