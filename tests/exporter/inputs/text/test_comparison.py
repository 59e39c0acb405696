"""Tokenizers compared part by part, whatever texts would show."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.modules import load_file
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors

from exporter.inputs.text.comparison import check_tokenizer

languages = load_file(Path(__file__).parents[3] / "data" / "languages.py")


def swap_two_rare_words(tokenizer: Tokenizer) -> None:
    words = tokenizer.get_vocab()
    words["nine"], words["ten"] = words["ten"], words["nine"]
    tokenizer.model = type(tokenizer.model)(words, unk_token="[UNK]")


CHANGES: dict[str, Callable[[Tokenizer], object]] = {
    "normalizer": lambda tokenizer: setattr(
        tokenizer, "normalizer", normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    ),
    "pre_tokenizer": lambda tokenizer: setattr(tokenizer, "pre_tokenizer", pre_tokenizers.Whitespace()),
    "post_processor": lambda tokenizer: setattr(
        tokenizer, "post_processor", processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    ),
    "added_tokens": lambda tokenizer: tokenizer.add_tokens([AddedToken("<rare>")]),
    "model.vocab.nine": swap_two_rare_words,
    "truncation.max_length": lambda tokenizer: tokenizer.enable_truncation(23),
    "padding": lambda tokenizer: tokenizer.enable_padding(length=24),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    languages.build_tokenizer(tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize("part", CHANGES)
def test_every_part_that_differs_is_named(path, part):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    expected = tokenizer.to_str().encode()
    CHANGES[part](tokenizer)
    tokenizer.save(str(path))

    check = check_tokenizer(expected, path)

    assert (check.fault, check.stage) == ("value", "tokens")
    assert check.finding.startswith(f"the tokenizer: '{part}"), check.finding


def test_the_same_tokenizer_in_another_form_is_equal(path):
    pretty = Tokenizer.from_file(str(path)).to_str(pretty=True).encode()

    check = check_tokenizer(pretty, path)

    assert check.fault is None
    assert check.count == len(languages.WORDS)


def test_a_file_that_is_no_tokenizer_is_named(path):
    expected = path.read_bytes()
    path.write_text("{}")

    assert "cannot read it" in check_tokenizer(expected, path).finding
