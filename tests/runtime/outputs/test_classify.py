"""Scores become labels, whatever ties there are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime.manifest import Classify, Labels
from runtime.outputs.registry import open_interpreter


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), min_size=1, max_size=40),
    st.integers(1, 45),
)
def test_the_best_classes_are_listed_best_first_and_of_equal_ones_the_first(scores, top_k):
    probabilities = np.array(scores, dtype=np.float32)
    expected = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:top_k]
    labels = [str(index) for index in range(len(scores))]
    interpreter = open_interpreter(Classify(labels=Labels(file="", count=len(scores))), labels)

    prediction = interpreter.interpret(probabilities, name="x", top_k=top_k, threshold=0.0)

    assert [scored.index for scored in prediction.top] == expected
    assert [scored.label for scored in prediction.top] == [str(index) for index in expected]
    assert prediction.index == expected[0]
