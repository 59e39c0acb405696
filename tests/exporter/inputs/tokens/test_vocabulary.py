"""Vocabularies: what becomes of words that they lack is stated, read from the file, or proven with the user's code."""

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import exporter
import runtime
from exporter.errors import ExportError, ParityError, PreprocessingError
from exporter.inputs.tokens.vocabulary import read_words
from exporter.outputs.labels import read_vocabulary
from exporter.recheck import recheck_artifact
from runtime.verify import verify

WORDS = ("<pad>", "<unk>", "good", "bad", "film", "not", "very", "the", "a", "is")
NUMBERS = {word: number for number, word in enumerate(WORDS)}


class TextLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, text):
        return 9 * self.fc(self.lstm(self.embedding(text))[1][0][0])


def encode(text: str) -> list[int]:
    return [NUMBERS.get(word, 1) for word in text.lower().split()]


def read(path: Path | None, *, unknown=None, lowercase=None, preprocess=None):
    return read_words(path, unknown=unknown, lowercase=lowercase, preprocess=preprocess)


@pytest.fixture
def vocabulary(tmp_path):
    def write(words) -> Path:
        path = tmp_path / "vocabulary.json"
        path.write_text(json.dumps(words))
        return path

    return write


@pytest.fixture
def export_text(tmp_path, vocabulary):
    def run(**options) -> exporter.ExportResult:
        torch.manual_seed(0)
        torch.save(TextLSTM().state_dict(), tmp_path / "feeling.pth")
        return exporter.export(
            tmp_path / "feeling.pth",
            TextLSTM,
            inputs=["text=tokens[batch,length]"],
            vocabulary=vocabulary(NUMBERS),
            lengths="1..20",
            out=tmp_path / "feeling",
            **options,
        )

    return run


def test_the_use_of_a_vocabulary_is_proven_with_the_users_own_function(export_text):
    exported = export_text(preprocess=encode)

    model = runtime.load(exported.artifact, device="cpu")
    assert model.predict("A splendid FILM\n").top == model.predict([8, 1, 4]).top
    assert model.predict(["a", "splendid", "film"]).top == model.predict([8, 1, 4]).top
    assert model.predict("1984").top == model.predict(b"1984").top == model.predict([1]).top
    assert not any("lower case" in sentence or "raw data" in sentence for sentence in exported.parity.not_proven)
    assert verify(exported.artifact).passed


def test_parity_takes_the_use_of_the_vocabulary_from_the_artifact(export_text, tmp_path):
    exported = export_text(lowercase=True)
    options = exporter.ExportOptions(checkpoint=tmp_path / "feeling.pth", arch=TextLSTM)

    accepted = recheck_artifact(exported.artifact, options).evidence
    assert accepted.passed
    assert any("--unknown-word or --preprocess, --lowercase or --preprocess" in text for text in accepted.not_proven)
    refused = recheck_artifact(exported.artifact, replace(options, lowercase=False)).evidence
    assert refused.verdict == "failed"
    assert "--lowercase" in refused.reason
    longer = recheck_artifact(exported.artifact, replace(options, lengths={"": (1, 24)})).evidence
    assert longer.verdict == "failed"
    assert 'lengths: \'length\': expected "1 to 24", got "1 to 20"; state --lengths' in longer.reason


def test_a_stated_use_that_is_not_the_users_is_refused(export_text):
    with pytest.raises(ParityError, match=r"stage 'decode'.* Your function makes other tokens of this text"):
        export_text(preprocess=encode, lowercase=False)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.json", lambda path: path.write_text(json.dumps(list(WORDS)))),
        ("b.json", lambda path: path.write_text(json.dumps({"word2idx": NUMBERS, "n_words": 10}))),
        ("c.json", lambda path: path.write_text(json.dumps(dict(enumerate(WORDS))))),
        ("d.txt", lambda path: path.write_text("\n".join(WORDS) + "\n")),
        ("e.pkl", lambda path: path.write_bytes(pickle.dumps(NUMBERS))),
        ("f.pt", lambda path: torch.save({"stoi": NUMBERS, "itos": list(WORDS)}, path)),
        ("g.pth", lambda path: torch.save(list(WORDS), path)),
        ("h.pth", lambda path: torch.save({"model": {"w": torch.ones(2)}, "vocab": {"itos": list(WORDS)}}, path)),
    ],
)
def test_vocabularies_are_read_in_the_forms_that_people_have(tmp_path, name, write):
    write(tmp_path / name)

    assert read_vocabulary(tmp_path / name) == WORDS


def test_an_object_of_torchtext_is_read_as_data(tmp_path):
    class Vocab:
        def __init__(self):
            self.stoi, self.itos = dict(NUMBERS), list(WORDS)

    Vocab.__module__, Vocab.__qualname__ = "torchtext.vocab", "Vocab"
    library = ModuleType("torchtext.vocab")
    library.Vocab = Vocab
    sys.modules |= {"torchtext": ModuleType("torchtext"), "torchtext.vocab": library}
    try:
        (tmp_path / "vocab.pkl").write_bytes(pickle.dumps(Vocab()))
        torch.save({"vocab": Vocab(), "epoch": 3}, tmp_path / "vocab.pt")
    finally:
        del sys.modules["torchtext"], sys.modules["torchtext.vocab"]

    assert read_vocabulary(tmp_path / "vocab.pkl") == read_vocabulary(tmp_path / "vocab.pt") == WORDS


def test_a_set_has_no_order(tmp_path):
    (tmp_path / "words.pkl").write_bytes(pickle.dumps(set(WORDS)))

    with pytest.raises(ExportError, match="names is ambiguous: expected a list or a dictionary, got a set"):
        read_vocabulary(tmp_path / "words.pkl")


def test_lower_case_that_cannot_be_seen_is_asked_for(vocabulary):
    with pytest.raises(ExportError, match="Pass --lowercase or --no-lowercase"):
        read(vocabulary(NUMBERS))

    assert read(vocabulary(NUMBERS), lowercase=True).lowercase
    assert read(vocabulary(NUMBERS), preprocess=encode).lowercase
    assert not read(vocabulary({"<unk>": 0, "Good": 1})).lowercase
    assert not read(vocabulary({"good": 0, "bad": 1})).lowercase


def test_the_unknown_word_is_the_vocabularys_own_or_asked_for(vocabulary):
    assert read(vocabulary(NUMBERS), lowercase=False).unknown == "<unk>"
    assert read(vocabulary({"other": 0, "Good": 1}), unknown="other").unknown == "other"
    assert read(vocabulary({"good": 0, "bad": 1})).unknown is None
    with pytest.raises(ExportError, match=r"'<unk>', '\[UNK\]'\. Name the one of training with --unknown-word"):
        read(vocabulary(["<unk>", "[UNK]", "good"]))
    with pytest.raises(ExportError, match="'nothing' is not in"):
        read(vocabulary(NUMBERS), unknown="nothing")


def test_what_is_assumed_is_said(vocabulary):
    said = read(vocabulary(NUMBERS), lowercase=True).assumptions

    assert "become its word '<unk>': assumed, see --unknown-word" in said[0]
    assert "lower case: stated by options" in said[1]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda text: 1 / 0, "fails on the text .*ZeroDivisionError"),
        (lambda text: text, "gives no token numbers"),
        (lambda text: (encode(text) + [0] * 50)[:50], "pads every text to 50 tokens.*--tokenizer"),
    ],
)
def test_functions_that_give_no_such_tokens_are_refused(vocabulary, function, reason):
    with pytest.raises(PreprocessingError, match=reason):
        read(vocabulary(NUMBERS), preprocess=function)


def test_a_function_that_splits_otherwise_is_not_proven(vocabulary):
    def splits_punctuation(text: str) -> list[int]:
        return encode(text.replace(",", " ,").replace(".", " ."))

    used = read(vocabulary(NUMBERS), preprocess=splits_punctuation)

    assert any(used.encode(text) != encode(text) for text in used.texts(1, 20))


def test_texts_have_as_many_words_as_the_network_takes(vocabulary):
    used = read(vocabulary(NUMBERS), preprocess=encode)

    assert {len(text.split()) for text in used.texts(4, 4)} == {4}
    assert {word for text in used.texts(1, 3) for word in text.split()} >= set(used.plain)


def test_a_function_that_knows_only_its_words_takes_them_as_they_are(vocabulary):
    words = {"good": 0, "bad": 1}

    assert not read(vocabulary(words), preprocess=lambda text: [words[word] for word in text.split()]).lowercase


def test_an_empty_unknown_word_is_none(vocabulary):
    used = read(vocabulary(NUMBERS), unknown="")

    assert used.unknown is None
    assert not used.lowercase
    assert used.assumptions == ()


def test_a_function_needs_its_words():
    with pytest.raises(ExportError, match="Pass --vocabulary FILE"):
        read(None, preprocess=encode)


@pytest.mark.parametrize(
    ("flag", "given"), [("--unknown-word", {"unknown": "<unk>"}), ("--lowercase", {"lowercase": False})]
)
def test_the_use_of_a_vocabulary_without_one_is_refused(flag, given):
    with pytest.raises(ExportError, match=f"{flag}: has no effect without --vocabulary"):
        read(None, **given)
