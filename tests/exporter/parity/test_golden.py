"""The golden set has small inputs of every kind, within its room, and what eager's answers to them mean."""

import numpy as np
import torch

from exporter.parity.cases import Case, PreparedInput, ReferenceOutput
from exporter.parity.golden import choose_golden
from runtime.artifact.golden import golden_to_npz, read_golden
from runtime.manifest import Classify, Labels

TASK = Classify(labels=Labels(file="labels.txt", count=3))
LABELS = ("cat", "dog", "cow")


def answer(name: str, size: int, *scores: float) -> ReferenceOutput:
    return ReferenceOutput(
        case=Case(name=name, data=name.encode() + bytes(size)),
        prepared=PreparedInput(arrays={"pixels": np.zeros((1, 4), np.uint8)}, tensors={"x": torch.zeros(1, 4)}),
        inner={},
        outputs={"probabilities": np.array([scores or (0.2, 0.5, 0.3)], np.float32)},
    )


def names(golden) -> list[str]:
    return [case.source.rstrip(b"\0").decode() for case in golden.cases]


def test_small_inputs_are_all_there_in_their_order():
    answers = [answer(f"row {place}", (7 * place) % 11) for place in range(23)]

    assert names(choose_golden(answers, TASK, LABELS, weights=1000)) == [f"row {place}" for place in range(23)]


def test_of_many_small_ones_the_shortest_and_the_longest_stay():
    answers = [answer(f"text {place}", place) for place in range(300)]

    chosen = names(choose_golden(answers, TASK, LABELS, weights=1000))

    assert len(chosen) == 32
    assert {"text 0", "text 299"} <= set(chosen)


def test_large_ones_stay_out_unless_the_weights_are_larger_still():
    answers = [answer("large", 2_400_000), *(answer(f"photo {place}", 200_000) for place in range(20))]

    small = names(choose_golden(answers, TASK, LABELS, weights=1000))
    large = names(choose_golden(answers, TASK, LABELS, weights=10**9))

    assert small == [f"photo {place}" for place in range(12)]
    assert len(large) == 21


def test_two_are_always_there():
    answers = [answer("one", 9_000_000), answer("two", 9_000_000), answer("three", 9_000_001)]

    assert names(choose_golden(answers, TASK, LABELS, weights=1000)) == ["one", "two"]


def test_what_the_scores_mean_is_kept(tmp_path):
    golden = choose_golden([answer("a", 1, 0.1, 0.2, 0.7), answer("b", 2)], TASK, LABELS, weights=1000)
    (tmp_path / "golden.npz").write_bytes(golden_to_npz(golden))

    read = read_golden(tmp_path / "golden.npz")

    assert [case.labels["label"].tolist() for case in read.cases] == [
        ["cow", "cow", "dog", "cat"],
        ["dog", "dog", "cow", "cat"],
    ]
