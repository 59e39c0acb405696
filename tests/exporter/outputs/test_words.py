"""Token classification: words with their classes, as transformers joins the tokens of a word."""

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import exporter
import runtime
from exporter.errors import ConversionError, ExportError
from exporter.options.task import TaskOptions
from exporter.outputs.words import WordsPostprocessing
from runtime.verify import verify

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "anna", "lives", "in", "paris", "slow", "##s", "##ly", ",", "."]
LABELS = ("O", "B-PER", "B-LOC", "B-ORG")
TEXTS = ["Anna  lives in Paris.", "slowly, slows", "nobody", "acme"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT for token classification, whose tokenizer splits some words."""
    folder = tmp_path_factory.mktemp("hf")
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=24
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=24,
        initializer_range=0.7,
        id2label=dict(enumerate(LABELS)),
    )
    transformers.BertForTokenClassification(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory) -> exporter.ExportResult:
    return exporter.export(folder, f"hf:{folder}", out=tmp_path_factory.mktemp("texts") / "names")


def expected_words(folder, text: str) -> list[tuple[str, str, float]]:
    """Return what transformers has for each word of a text: its first token decides."""
    network = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
    encoded = transformers.AutoTokenizer.from_pretrained(folder)(text, truncation=True, return_tensors="pt")
    with torch.no_grad():
        scores = torch.softmax(network(**encoded).logits[0], dim=-1)
    words = []
    for word in range(max(number for number in encoded.word_ids() if number is not None) + 1):
        start, end = encoded.word_to_chars(word)
        best = scores[encoded.word_to_tokens(word).start].max(dim=0)
        words.append((text[start:end], LABELS[int(best.indices)], float(best.values)))
    return words


def test_words_have_the_labels_that_transformers_gives_to_their_first_tokens(exported, folder):
    assert exported.manifest.task.kind == "words"
    model = runtime.load(exported.artifact, device="cpu")
    labels = set()
    for text, result in zip(TEXTS, model.predict(TEXTS), strict=True):
        expected = expected_words(folder, text)
        assert [(word.word, word.label) for word in result.words] == [known[:2] for known in expected]
        assert [word.probability for word in result.words] == pytest.approx([known[2] for known in expected], abs=1e-5)
        assert [text[word.start : word.end] for word in result.words] == [word.word for word in result.words]
        labels |= {word.label for word in result.words}
    assert len(labels) > 1


def test_a_row_has_words_and_no_scores_of_special_tokens(exported):
    result = runtime.load(exported.artifact, device="cpu").predict("slowly, anna")

    assert [word["word"] for word in result.to_dict()["words"]] == ["slowly", ",", "anna"]
    assert result.to_dict().keys() == {"input", "words"}
    assert result.scores.shape == (6, 4)


def test_labels_are_proven_and_verified(exported):
    assert {row.stage for row in exported.parity.rows if row.path == "runtime"} >= {"labels", "tokens", "network"}
    assert verify(exported.artifact).passed


def test_a_word_beyond_the_longest_text_is_left_out(exported):
    with pytest.warns(UserWarning, match="longer than the 24 tokens"):
        result = runtime.load(exported.artifact, device="cpu").predict("anna " * 40)

    assert len(result.words) == 22


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 3, 3)])
def test_outputs_of_another_form_are_refused(shape):
    with pytest.raises(ConversionError, match="not fit for --task words: expected one output"):
        WordsPostprocessing.infer([torch.zeros(shape)], TaskOptions(task="words"), labels_file="labels.txt", name="Net")


def test_inputs_without_words_are_refused():
    post = WordsPostprocessing.infer([torch.rand(1, 3, 4)], TaskOptions(task="words"), labels_file="l.txt", name="Net")

    with pytest.raises(ExportError, match="expected a tokenizer"):
        post.interpreter(post.task, LABELS).expected_result({"probabilities": np.ones((1, 3, 4))})
