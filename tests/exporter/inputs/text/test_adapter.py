"""Networks of texts: the tokenizer of training goes with them, and every number that it gives is compared."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from support.modules import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

import exporter
import runtime
from exporter.conversion.to_torchscript import load_torchscript
from exporter.inputs.text.adapter import TextAdapter
from exporter.inputs.text.tokenizer import read_tokenizer
from runtime.verify import verify

NETWORKS = Path(__file__).parents[3] / "data" / "languages.py"
SENTENCES = ["good", "It is NOT bad", "very very good", "one two three four five six seven", "bad", "it is it is it"]

languages = load_file(NETWORKS)


def build_folder(folder: Path, **settings: object) -> Path:
    """Write a tiny BERT with random weights, its tokenizer and its configuration."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(languages.WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.7,
        **settings,
    )
    transformers.BertForSequenceClassification(config).eval().save_pretrained(folder)
    languages.build_tokenizer(folder / "words.json")
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "words.json"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(folder)
    (folder / "words.json").unlink()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build_folder(tmp_path_factory.mktemp("hf"), id2label={0: "negative", 1: "neutral", 2: "positive"})


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory) -> exporter.ExportResult:
    return exporter.export(folder, f"hf:{folder}", out=tmp_path_factory.mktemp("texts") / "feeling")


def expected_scores(folder: Path, *texts: str) -> torch.Tensor:
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return network(**tokenizer(*texts, truncation=True, return_tensors="pt")).logits[0]


def test_a_transformers_folder_is_all_that_it_takes(exported, folder):
    assert exported.manifest.task.kind == "classify"
    spec = exported.manifest.inputs[0]
    assert (spec.max_length, spec.pad_id) == (32, 0)
    model = runtime.load(exported.artifact, device="cpu")
    assert model.labels == ("negative", "neutral", "positive")
    results = model.predict(SENTENCES)
    assert len({result.index for result in results}) > 1
    for text, result in zip(SENTENCES, results, strict=True):
        expected = torch.softmax(expected_scores(folder, text), dim=0)
        assert {one.index: one.probability for one in result.top} == pytest.approx(
            dict(enumerate(expected.tolist())), abs=1e-5
        )
        assert result.input == text
    assert verify(exported.artifact, device="cpu").passed


def test_torchscript_begins_with_the_tokenizers_arrays_of_any_length(exported, folder):
    archive = load_torchscript(exported.artifact / "model.torchscript")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    names = exported.manifest.inputs[0].arrays

    for text in SENTENCES:
        arrays = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            scores = archive(*(arrays[name] for name in names))[0]
        assert torch.allclose(scores, torch.softmax(expected_scores(folder, text), dim=0), atol=1e-6)
    assert {row.path for row in exported.parity.rows if row.stage == "end to end"} == {
        *("model.onnx", "runtime", "model.torchscript")
    }


def test_a_text_that_is_too_long_is_cut_as_in_training_and_counted(exported, folder):
    model = runtime.load(exported.artifact, device="cpu")
    long = "good bad very " * 40

    with pytest.warns(UserWarning, match="longer than the 32 tokens"):
        results = model.predict([long, "good", long])

    assert model.warning_counts == {"truncated": 2}
    expected = torch.softmax(expected_scores(folder, long), dim=0)
    assert results[0].probability == pytest.approx(float(expected.max()), abs=1e-5)


def test_one_bad_text_costs_only_itself(exported):
    model = runtime.load(exported.artifact, device="cpu")

    results = model.predict(["good", "", " \n", 3, "half \ud800", b"\xe9t\xe9", "bad"])

    assert [type(result).__name__ for result in results] == ["Prediction", *["Failure"] * 5, "Prediction"]
    for result, message in zip(results[1:6], ["empty", "empty", "got int", "character 5", "UTF-8"], strict=True):
        assert message in result.error


def test_exporting_twice_gives_the_same_bytes(exported, folder, tmp_path):
    again = exporter.export(folder, f"hf:{folder}", out=tmp_path / "feeling")

    assert again.manifest == exported.manifest


def test_another_tokenizer_than_trainings_is_caught(folder, tmp_path, monkeypatch):
    files = TextAdapter.files.fget

    def carry_another(adapter):
        (name,) = files(adapter)
        tokenizer = files(adapter)[name]
        other = tokenizer.replace(b'"Lowercase"', b'"NFC"')
        assert other != tokenizer
        return {name: other}

    monkeypatch.setattr(TextAdapter, "files", property(carry_another))

    with pytest.raises(exporter.ParityError, match="stage 'tokens'"):
        exporter.export(folder, f"hf:{folder}", out=tmp_path / "feeling")
    assert not (tmp_path / "feeling").exists()


def test_pairs_and_several_labels(tmp_path):
    folder = build_folder(tmp_path / "hf", id2label={0: "same", 1: "other"}, problem_type="multi_label_classification")

    exported = exporter.export(folder, f"hf:{folder}", text_pairs=True, out=tmp_path / "pairs")

    assert exported.manifest.task.kind == "multilabel"
    model = runtime.load(exported.artifact, device="cpu")
    pairs = [("it is good", "it is very good"), ("good", "bad bad bad bad"), ["one", "two"]]
    results = model.predict(pairs, threshold=0.0)
    for pair, result in zip(pairs, results, strict=True):
        expected = torch.sigmoid(expected_scores(folder, *pair))
        assert {one.label: one.probability for one in result.labels} == pytest.approx(
            {"same": float(expected[0]), "other": float(expected[1])}, abs=1e-5
        )
    assert model.predict(("good", "bad")).labels is not None
    with pytest.raises(runtime.InputError, match="a pair of texts: expected two strings, got 1"):
        model.predict("good")


def test_an_architecture_of_ones_own_with_a_tokenizer_file(tmp_path):
    languages.build_tokenizer(tmp_path / "tokenizer.json")
    torch.manual_seed(0)
    network = languages.Masked().eval()
    torch.save(network.state_dict(), tmp_path / "mine.pth")

    exported = exporter.export(
        tmp_path / "mine.pth",
        f"{NETWORKS}:Masked",
        tokenizer=tmp_path / "tokenizer.json",
        out=tmp_path / "mine",
    )

    spec = exported.manifest.inputs[0]
    assert (spec.arrays, spec.max_length, spec.pad_id) == (("input_ids",), 24, 0)
    model = runtime.load(exported.artifact, device="cpu")
    tokens = [[2, *(languages.WORDS.index(word) for word in text.lower().split()), 3] for text in SENTENCES]
    for ids, result in zip(tokens, model.predict(SENTENCES), strict=True):
        with torch.no_grad():
            expected = torch.softmax(network(torch.tensor([ids])), dim=1)[0]
        assert result.probability == pytest.approx(float(expected.max()), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing", None, "no such tokenizer"),
        ("broken.json", "{}", "not a tokenizer"),
        ("folder", "", "cannot be read"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content)

    with pytest.raises(exporter.PreprocessingError, match=message):
        read_tokenizer(path, max_length=None, longest=16)


def test_a_vocabulary_is_refused_with_the_lines_that_write_its_tokenizer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("words.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "good": 2, "film": 3}))
    with pytest.raises(exporter.PreprocessingError, match="a vocabulary, and not a tokenizer") as refused:
        read_tokenizer(Path("words.json"), max_length=6, longest=None)

    lines = re.search(r"such as (.*); or pass", str(refused.value))[1]
    names = {"json": json, "Path": Path, "Tokenizer": Tokenizer}
    exec(lines, names | vars(models) | vars(normalizers) | vars(pre_tokenizers))  # noqa: S102 - our own message

    tokenizer = read_tokenizer(Path("tokenizer.json"), max_length=None, longest=None)
    assert tokenizer.reference(("A GOOD film",))["input_ids"].tolist() == [[1, 2, 3, 0, 0, 0]]


def padded_tokenizer(path: Path, **padding: object) -> Path:
    """Write a tokenizer.json that pads each text, as ``padding`` says."""
    languages.build_tokenizer(path)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", **padding)
    tokenizer.save(str(path))
    return path


class Flat(torch.nn.Module):
    """Looks at every token of texts of one length, padding among them."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(20, 4)
        self.head = torch.nn.Linear(24 * 4, 3)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return 2 * self.head(self.words(input_ids).flatten(1))


class Summed(torch.nn.Module):
    """Counts padding as a word, and its mask: neither may change."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(20, 6)
        self.head = torch.nn.Linear(6, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        weight = (1 + attention_mask).unsqueeze(2).to(torch.float32)
        return self.head((self.words(input_ids) * weight).sum(dim=1))


@pytest.mark.parametrize(
    ("network", "padding"),
    [(Flat, {"length": 24, "direction": "left"}), (Summed, {"pad_to_multiple_of": 8})],
    ids=["fixed", "multiple"],
)
def test_texts_are_padded_as_the_users_tokenizer_pads_them(tmp_path, network, padding):
    """The network sees the padding: the user's own pipeline, tokenizer.json as it is, is what is served."""
    path = padded_tokenizer(tmp_path / "tokenizer.json", **padding)
    torch.manual_seed(0)
    eager = network().eval()
    torch.save(eager.state_dict(), tmp_path / "mine.pth")

    exported = exporter.export(tmp_path / "mine.pth", eager, tokenizer=path, out=tmp_path / "mine")

    assert exported.manifest.inputs[0].pad_id is None
    tokenizer = Tokenizer.from_file(str(path))
    with runtime.load(exported.artifact, device="cpu") as model:
        for text, result in zip(SENTENCES, model.predict(SENTENCES), strict=True):
            encoded = tokenizer.encode(text)
            arrays = [torch.tensor([encoded.ids]), torch.tensor([encoded.attention_mask])]
            with torch.no_grad():
                expected = torch.softmax(eager(*arrays[: 2 if network is Summed else 1]), dim=1)[0]
            assert {one.index: one.probability for one in result.top} == pytest.approx(
                dict(enumerate(expected.tolist())), abs=1e-5
            )


def test_a_tokenizers_own_truncation_is_kept(tmp_path):
    languages.build_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(12, strategy="only_second", stride=2, direction="left")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    long = "one two three four five six", "seven eight nine ten one two three four"

    as_it_is = read_tokenizer(tmp_path / "tokenizer.json", max_length=None, longest=None)
    unbounded = read_tokenizer(
        tmp_path / "tokenizer.json", max_length=None, longest=-1
    )  # as XLNet's configuration says
    shorter = read_tokenizer(tmp_path / "tokenizer.json", max_length=11, longest=None)
    assert unbounded.max_length == as_it_is.max_length

    assert as_it_is.reference(long)["input_ids"].tolist() == [tokenizer.encode(*long).ids]
    carried = Tokenizer.from_str(as_it_is.data.decode())
    assert carried.encode(*long).ids == tokenizer.encode(*long).ids
    assert carried.truncation == tokenizer.truncation
    assert Tokenizer.from_str(shorter.data.decode()).truncation == {**tokenizer.truncation, "max_length": 11}
    assert as_it_is.assumptions == ()
    assert "cut to 11 tokens: stated by options" in shorter.assumptions[0]


def test_texts_of_one_length_do_not_show_that_padding_is_harmless(tmp_path):
    """Samples of the same length alone: beside each other none is padded."""
    path = padded_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "samples.txt").write_text("good bad\nit is\nvery good\n")
    torch.manual_seed(0)
    eager = Summed().eval()
    adapter = TextAdapter(
        read_tokenizer(path, max_length=None, longest=None),
        takes=("input_ids", "attention_mask"),
        pairs=False,
        samples=tmp_path / "samples.txt",
        config=None,
        call=lambda tensors: eager(**tensors),
    )
    assert adapter.inputs[0].pad_id is None
