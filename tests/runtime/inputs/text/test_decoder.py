"""Texts to token numbers: as the tokenizers library gives them, cut and padded, one bad text at a time."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

tokenizers = pytest.importorskip("tokenizers")

from runtime.errors import ArtifactError, InputError  # noqa: E402
from runtime.inputs.text.decoder import TextDecoder, length_band  # noqa: E402
from runtime.inputs.text.source import FORMAT  # noqa: E402
from runtime.jobs.sources import read_sources  # noqa: E402
from runtime.manifest import TextInput  # noqa: E402

ARRAYS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture
def folder(tmp_path) -> Path:
    words = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "very"))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(6)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.fixture
def open_decoder(folder):
    def run(**changes: object) -> TextDecoder:
        settings = {"name": "text", "tokenizer": "tokenizer.json", "arrays": ARRAYS, "max_length": 6, "pad_id": 0}
        artifact = SimpleNamespace(path=folder, read=lambda name: (folder / name).read_bytes())
        return TextDecoder(TextInput(**{**settings, **changes}), artifact)

    return run


def test_tokens_carry_their_special_ones_and_say_when_they_were_cut(open_decoder):
    decoder = open_decoder()

    short, long = (decoder.decode(text, subject="text") for text in ("very good", "very very very very good"))

    assert short.ids.tolist() == [2, 6, 4, 3]
    assert (short.warning, long.warning) == ("", "truncated")
    assert long.ids.tolist() == [2, 6, 6, 6, 6, 3]
    assert decoder.decode("[SEP] unheard", subject="text").ids.tolist() == [2, 1, 1, 1, 1, 3]


@pytest.mark.parametrize(
    ("side", "ids", "mask"),
    [("right", [2, 4, 3, 0], [1, 1, 1, 0]), ("left", [0, 2, 4, 3], [0, 1, 1, 1])],
)
def test_shorter_texts_are_padded_on_the_tokenizers_side(open_decoder, side, ids, mask):
    decoder = open_decoder(padding_side=side, pad_type_id=1)

    arrays = decoder.stack([decoder.decode(text, subject="text") for text in ("good", "very good")])

    assert arrays["input_ids"][0].tolist() == ids
    assert arrays["attention_mask"][0].tolist() == mask
    assert arrays["token_type_ids"][0].tolist() == [1 - one for one in mask]
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


def test_arrays_for_a_graph_hold_no_negative_tokens(open_decoder):
    decoder = open_decoder()
    arrays = decoder.stack([decoder.decode("very good", subject="text")])

    decoder.check_arrays(arrays)
    arrays["input_ids"][0, 2] = -1
    with pytest.raises(InputError, match=r"no token: expected numbers from 0 on in 'input_ids', got .* at \[0, 2\]"):
        decoder.check_arrays(arrays)


def test_only_the_arrays_that_the_graph_takes_are_given(open_decoder):
    decoder = open_decoder(arrays=("input_ids",))
    assert list(decoder.stack([decoder.decode("good", subject="text")])) == ["input_ids"]


def test_texts_share_a_batch_when_their_lengths_are_alike_and_padding_is_allowed(open_decoder):
    padded, exact = open_decoder(), open_decoder(pad_id=None)
    texts = [padded.decode(text, subject="text") for text in ("good", "very good")]

    assert len({padded.bucket(text) for text in texts}) == 1
    assert len({exact.bucket(text) for text in texts}) == 2


def test_a_band_of_lengths_wastes_little():
    for length in range(1, 5000):
        assert length <= length_band(length) <= max(8, length + 4, length * 9 / 8 + 1)


def test_pairs_are_two_texts_of_different_types(open_decoder):
    decoder = open_decoder(pairs=True)

    for source in (("good", "bad"), ["good", "bad"], b'["good", "bad"]'):
        decoded = decoder.decode(source, subject="text")
        assert decoded.ids.tolist() == [2, 4, 3, 5, 3]
        assert decoded.type_ids.tolist() == [0, 0, 0, 1, 1]
    assert not decoder.is_list(("good", "bad"))
    assert decoder.is_list([("good", "bad")])
    assert open_decoder().is_list(["good", "bad"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "empty: expected a text, got 0 blank characters"),
        ("\n \t", "empty"),
        (b"", "empty"),
        (b"\xff\xfd", "expected UTF-8, got byte 0xff at position 0. Save it as UTF-8"),
        (b"\xff\xfe", "empty: expected a text, got 0 blank characters"),
        (
            "good".encode("utf-16-le"),
            "a null character at position 1: expected UTF-8, or UTF-16 with a byte order mark",
        ),
        ("good".encode("utf-32"), "got UTF-32. Save it as UTF-8"),
        ("a\ud800", "half of one, '\\\\ud800', at character 1"),
        (7, "expected a string, got int"),
        (["a", "b"], "expected one string, got 2"),
        ("a" * 1_000_001, "expected at most 1000000 characters"),
        (Path("missing.txt"), "no such file"),
    ],
)
def test_what_is_no_text_is_named(open_decoder, source, message):
    with pytest.raises(InputError, match=message):
        open_decoder().decode(source, subject="'seven'")


@pytest.mark.parametrize("source", ["good", ("a", "b", "c"), ("a", 2), b'["one"]', b"not JSON", ("a", "")])
def test_what_is_no_pair_is_named(open_decoder, source):
    with pytest.raises(InputError, match=r"^'seven': "):
        open_decoder(pairs=True).decode(source, subject="'seven'")


def test_a_damaged_tokenizer_is_the_artifacts_fault(open_decoder, folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizers .* cannot read it"):
        open_decoder()


def test_short_texts_are_their_own_names(open_decoder):
    decoder = open_decoder()
    assert decoder.name("very good", 3) == "very good"
    assert [decoder.name(source, 3) for source in ("a" * 81, "two\nlines", "", b"bytes")] == ["#3"] * 4
    assert open_decoder(pairs=True).name(("a", "b"), 0) == "a | b"


def test_a_line_is_an_input_and_a_bad_one_stands_in_its_place(tmp_path):
    plain, rows = tmp_path / "a.txt", tmp_path / "b.jsonl"
    plain.write_bytes("good\r\n\nna\u00efve\n".encode() + b"\xff\n")
    rows.write_text('["good", "bad"]\n{oops\n"last"')

    found = dict(read_sources([str(plain), str(rows)], FORMAT))

    assert [found[f"{plain}#{line}"] for line in (1, 2, 3)] == ["good", "", "na\u00efve"]
    assert found[f"{plain}#4"] == "\udcff"
    assert found[f"{rows}#1"] == ["good", "bad"]
    assert "not JSON" in str(found[f"{rows}#2"])
    assert found[f"{rows}#3"] == "last"


def test_a_pair_that_the_tokenizer_cannot_cut_is_the_inputs_fault(open_decoder, folder):
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(6, strategy="only_first")
    tokenizer.save(str(folder / "tokenizer.json"))

    with pytest.raises(InputError, match="'pair': cannot be tokenized: Truncation error"):
        open_decoder(pairs=True).decode(("good", "bad " * 9), subject="'pair'")
