"""What 'truecopy parity' is given beside an artifact has to be for its inputs and its task."""

from pathlib import Path

import pytest

from exporter import ExportError, ExportOptions
from exporter.recipe_from_artifact import options_from_artifact
from runtime.artifact.open import open_artifact

TINY = Path(__file__).parents[1] / "data" / "tiny"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"tokenizer": "tokenizer.json"}, "--tokenizer: is for texts, and this model takes images"),
        ({"vocabulary": "words.txt"}, "--vocabulary: is for token sequences, and this model takes images"),
        ({"inputs": "x=float32[batch,3]"}, "--input: is for arrays or token sequences, and this model takes images"),
        ({"thresholds": 0.9}, "--thresholds: is for --task multilabel, and the task is classify"),
    ],
)
def test_an_option_that_is_not_for_the_artifact_is_refused(given, problem):
    with pytest.raises(ExportError, match=problem):
        options_from_artifact(open_artifact(TINY), ExportOptions.from_keywords("m.pth", "net.py:Net", **given))


def test_options_for_its_kind_are_completed_from_the_artifact():
    given = ExportOptions.from_keywords("m.pth", "net.py:Net", interpolation="bicubic", labels="names.txt")

    options = options_from_artifact(open_artifact(TINY), given)

    assert (options.interpolation, options.pixel_format) == ("bicubic", "RGB")
