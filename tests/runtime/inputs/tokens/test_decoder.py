"""Token sequences, in every form that callers have them, and what is wrong with others."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.inputs.tokens.decoder import TokensDecoder
from runtime.manifest import Labels, Tokens, TokensInput
from runtime.results import interpret, until_end

WORDS = ("zero", "one", "two", "3")


def npy(values: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(values))
    return stream.getvalue()


@pytest.fixture
def open_decoder(tmp_path):
    (tmp_path / "vocabulary.txt").write_text("".join(f"{word}\n" for word in WORDS))

    def run(**changes: object) -> TokensDecoder:
        settings = {"name": "digits", "vocabulary_size": 4, "max_length": 5}
        artifact = SimpleNamespace(path=tmp_path, read=lambda name: (tmp_path / name).read_bytes())
        return TokensDecoder(TokensInput(**{**settings, **changes}), artifact)

    return run


@pytest.mark.parametrize(
    "source",
    [
        [1, 2, 0],
        (1, 2, 0),
        np.array([1, 2, 0], dtype=np.uint8),
        "1 2 0",
        "1, 2,0\n",
        b"[1, 2, 0]",
        b"1 2 0\n",
        npy([1, 2, 0]),
        npy([[1, 2, 0]]),
    ],
)
def test_numbers_come_in_any_form(open_decoder, source):
    tokens = open_decoder().decode(source, subject="digits").tokens
    assert tokens.tolist() == [1, 2, 0]
    assert tokens.dtype == np.int64


@pytest.mark.parametrize("source", ["one two zero", ["one", "two", "zero"], b'["one", "two", "zero"]'])
def test_words_come_with_a_vocabulary(open_decoder, source):
    decoder = open_decoder(vocabulary="vocabulary.txt")
    assert decoder.decode(source, subject="digits").tokens.tolist() == [1, 2, 0]


def test_one_sequence_is_told_from_several(open_decoder):
    numbers, words = open_decoder(), open_decoder(vocabulary="vocabulary.txt")

    assert not numbers.is_list([1, 2])
    assert not numbers.is_list("1 2")
    assert not numbers.is_list(np.array([1, 2]))
    assert numbers.is_list([[1, 2], [3]])
    assert numbers.is_list(["1 2", "3"])
    assert not words.is_list(["one", "two"])
    assert words.is_list(["one two", "zero"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "empty"),
        ("", "empty"),
        ([1, 4], "from 0 to 3, got 4 at position 1"),
        ([-1], "from 0 to 3, got -1 at position 0"),
        ([1.5], r"expected whole numbers \[length\], got float64 \[1\]"),
        ([[1], [2, 3]], "not a token sequence"),
        (np.zeros((2, 2), dtype=int), r"got int64 \[2, 2\]"),
        ([True], "got bool"),
        ([0] * 6, "at most 5 tokens, got 6"),
        ("one two", "no vocabulary, got 'one' at position 0"),
        ("1 2 x", "no vocabulary, got 'x' at position 2"),
        (["1", "9"], "from 0 to 3, got 9 at position 1"),
        (["1 2", "3"], "no vocabulary, got '1 2' at position 0"),
        (b"\xff\xff", "expected UTF-8, got byte 0xff"),
        (b"{}", "not a token sequence"),
        (None, "not a token sequence"),
        ([2**70], "not a token sequence"),
        ("9" * 5000, "at most 18 digits"),
        (["1", "9" * 5000], "at most 18 digits"),
        (b"[" + b"9" * 5000 + b"]", "not a token"),
        (Path("missing.json"), "no such file"),
    ],
)
def test_what_is_no_sequence_is_named_with_its_place(open_decoder, source, message):
    with pytest.raises(InputError, match=message):
        open_decoder().decode(source, subject="'seven'")


def test_a_word_outside_the_vocabulary_is_named(open_decoder):
    with pytest.raises(InputError, match=r"one of the 4 words .* got 'four' at position 1"):
        open_decoder(vocabulary="vocabulary.txt").decode("one four", subject="'seven'")


def test_sequences_are_padded_at_their_end_only_where_that_is_allowed(open_decoder):
    padded, exact = open_decoder(pad_id=3), open_decoder()
    sequences = [padded.decode(source, subject="digits").tokens for source in ([1], [1, 2, 0])]

    assert padded.bucket(sequences[0]) == padded.bucket(sequences[1])
    assert padded.stack(sequences)["digits"].tolist() == [[1, 3, 3], [1, 2, 0]]
    assert exact.bucket(sequences[0]) != exact.bucket(sequences[1])


@pytest.mark.parametrize(("given", "expected"), [([1, 2, 3, 3], [1, 2]), ([3, 1], []), ([1, 2], [1, 2]), ([], [])])
def test_a_sequence_ends_before_its_end_token(given, expected):
    assert until_end(np.array(given, dtype=np.int64), 3).tolist() == expected
    assert until_end(np.array(given, dtype=np.int64), None).tolist() == given


def test_answers_have_words_where_there_is_a_vocabulary():
    tokens = np.array([2, 0, 9, 1, 3])
    plain = interpret(Tokens(end_id=1), tokens, (), name="a", top_k=1, threshold=None)
    spelt = interpret(Tokens(labels=Labels(file="w", count=4)), tokens, WORDS, name="a", top_k=1, threshold=None)

    assert plain.to_dict() == {"input": "a", "tokens": [2, 0, 9]}
    assert spelt.to_dict() == {"input": "a", "tokens": [2, 0, 9, 1, 3], "words": ["two", "zero", "#9", "one", "3"]}
    assert str(spelt) == "a: two zero #9 one 3"


def test_arrays_for_a_graph_hold_the_vocabulary_alone(open_decoder):
    decoder = open_decoder()

    decoder.check_arrays(decoder.stack([decoder.decode([0, 3], subject="'x'").tokens]))
    with pytest.raises(InputError, match=r"inputs: token outside the vocabulary: expected .*, got -1 at position 1"):
        decoder.check_arrays({"digits": np.array([[0, 1], [2, -1]])})
