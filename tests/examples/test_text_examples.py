"""The examples of texts and token sequences: trained, exported, and equal to eager PyTorch on every prediction."""

import pytest
from support.modules import load_example


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accuracy"), [("text_classifier", 0.7), ("name_classifier", 0.8), ("reverser", 0.8)])
def test_an_example_learns_and_its_artifact_answers_as_eager_does(name, accuracy, tmp_path):
    figures = load_example(name).main(tmp_path)

    assert figures["agreement"] == 1
    assert figures.get("largest difference", 0) <= 1e-5
    assert figures["accuracy"] >= accuracy
