"""What 'truecopy parity' is given beside an artifact has to be for its inputs and its task."""

from pathlib import Path

import msgspec
import pytest

from exporter import ExportError, ExportOptions
from exporter.recipe_from_artifact import options_from_artifact, own_values
from runtime.artifact.open import Artifact, open_artifact
from runtime.manifest import Affine, Regress, TextInput, TokensInput, Value

TINY = Path(__file__).parents[1] / "data" / "tiny"
TAKEN = "what no option states, so that the artifact's own was taken: "


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


@pytest.fixture
def sequences():
    """An artifact of token sequences to a value, which the export scaled; its files are those of another."""
    tiny = open_artifact(TINY)
    manifest = msgspec.structs.replace(
        tiny.manifest,
        inputs=(TokensInput(name="tokens", vocabulary_size=9, max_length=40, pad_id=0),),
        task=Regress(values=(Value(name="price"),), inverse_transform=(Affine(scale=(2.0,), offset=(1.0,)),)),
    )
    return Artifact(path=TINY, manifest=manifest)


@pytest.mark.parametrize(
    ("stated", "taken"),
    [
        ({}, ["--exif (off), --pixel-format, --task, --labels"]),
        ({"exif": False, "task": "classify"}, ["--pixel-format, --labels"]),
        ({"exif": True, "pixel_format": "RGB", "task": "classify", "labels": "names.txt"}, []),
    ],
)
def test_what_no_option_states_of_photos_is_named_as_the_artifacts_own(stated, taken):
    given = ExportOptions.from_keywords("m.pth", "net.py:Net", **stated)

    assert list(own_values(open_artifact(TINY), given)) == [TAKEN + listed for listed in taken]


@pytest.mark.parametrize(
    ("stated", "taken"),
    [
        ({}, "--max-length (40), --pad-id (0), --task, --values, --target-mean or --target-std or --target-transform"),
        ({"pad_id": 0, "target_std": 2.0}, "--max-length (40), --task, --values"),
        ({"max_length": 40, "task": "regress", "values": "price", "target_mean": 1.0}, "--pad-id (0)"),
    ],
)
def test_one_of_several_options_that_state_a_part_is_enough(sequences, stated, taken):
    given = ExportOptions.from_keywords("m.pth", "net.py:Net", **stated)

    assert list(own_values(sequences, given)) == [TAKEN + taken]


def test_the_artifacts_own_tokenizer_is_named_and_the_users_own_states_its_lengths(tmp_path):
    tiny = open_artifact(TINY)
    spec = TextInput(name="text", tokenizer="labels.txt", arrays=("input_ids",), max_length=24, pad_id=0)
    texts = Artifact(path=TINY, manifest=msgspec.structs.replace(tiny.manifest, inputs=(spec,)))
    without, own = (
        ExportOptions.from_keywords("m.pth", "net.py:Net", task="classify", labels="n.txt", **more)
        for more in ({}, {"tokenizer": tmp_path / "tokenizer.json"})
    )

    assert list(own_values(texts, without)) == [
        f"{TAKEN}--max-length (24), --pad-id (0), --text-pairs (off), --tokenizer"
    ]
    assert list(own_values(texts, own)) == [f"{TAKEN}--text-pairs (off)"]
