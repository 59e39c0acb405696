"""Networks of token sequences: every length that is promised is run, and a dropped dimension does not pass."""

import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch
import transformers
from support.modules import load_file
from torch import nn

import exporter
import runtime
from exporter.conversion import to_onnx
from exporter.conversion.decoder_loop import SequenceProbe, check_no_python_loop
from exporter.conversion.to_torchscript import load_torchscript, trace
from exporter.conversion.validation import validate
from exporter.errors import ConversionError
from exporter.inputs.tokens.adapter import TokensAdapter
from exporter.inputs.tokens.options import TokenInputs, TokenOptions
from runtime.manifest import LengthRange
from runtime.verify import verify

NETWORKS = Path(__file__).parents[3] / "data" / "languages.py"
INPUT = "tokens=tokens[batch,length]"


@pytest.fixture(scope="module")
def networks() -> ModuleType:
    return load_file(NETWORKS)


@pytest.fixture
def export_network(networks, tmp_path):
    """Export one of the networks with random weights; return its artifact and the eager network."""

    def run(name: str, *, arguments=None, **options) -> tuple[exporter.ExportResult, nn.Module]:
        torch.manual_seed(3)
        network = getattr(networks, name)(**(arguments or {})).eval()
        torch.save(network.state_dict(), tmp_path / f"{name}.pth")
        exported = exporter.export(
            tmp_path / f"{name}.pth",
            f"{NETWORKS}:{name}",
            arguments=arguments or {},
            out=tmp_path / name,
            **{"inputs": [INPUT], **options},
        )
        return exported, network

    return run


def eager(network: nn.Module, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        return network(torch.tensor([tokens]))[0].numpy()


def scores_of(result: runtime.Prediction) -> np.ndarray:
    scores = np.zeros(len(result.top))
    for scored in result.top:
        scores[scored.index] = scored.probability
    return scores


def test_where_dynamo_fixes_the_length_the_legacy_exporter_steps_in_and_is_named(export_network):
    exported, network = export_network("Recurrent", arguments={"kind": "RNN", "layers": 2})

    assert exported.manifest.source.onnx_exporter == "legacy"
    (fallback,) = exported.parity.fallbacks
    assert fallback.startswith("the network was converted by torch.onnx's legacy exporter, as dynamo failed: ")
    assert (exported.artifact / "parity.json").read_bytes().count(b'"fallbacks"') == 1
    spec = exported.manifest.inputs[0]
    assert (spec.vocabulary_size, spec.max_length, spec.pad_id) == (20, None, None)
    model = runtime.load(exported.artifact, device="cpu")
    assert exported.manifest.compared["length"] == LengthRange(lowest=1, highest=512)
    with pytest.raises(runtime.InputError, match=r"'length' outside what was compared .*expected 1 to 512, got 513"):
        model.predict([1] * 513)
    sequences = [[1], [4, 5], [6] * 7, list(range(19)) * 20]
    for tokens, result in zip(sequences, model.predict(sequences), strict=True):
        expected = torch.softmax(torch.from_numpy(eager(network, tokens)), dim=0).numpy()
        assert scores_of(result) == pytest.approx(expected, abs=1e-6)
        scores = load_torchscript(exported.artifact / "model.torchscript")(torch.tensor([tokens]))
        assert scores[0].numpy() == pytest.approx(expected, abs=1e-6)
    assert verify(exported.artifact, device="cpu").passed


def test_a_trace_that_keeps_its_length_is_no_archive():
    class Fixed(nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return tokens.float().mean(dim=1) * tokens.shape[1] + float(np.sqrt(tokens.shape[1]))

    network = Fixed().eval()
    example = torch.arange(14).reshape(2, 7)
    traced = trace(network, (example,))

    def run(inputs):
        return [traced(*inputs.values()).numpy()]

    validate(run, network, [{"tokens": example}], subject="its trace")
    with pytest.raises(ConversionError, match=r"its trace is .* off eager for inputs of another length"):
        validate(run, network, [{"tokens": example[:, :3]}], subject="its trace")


def test_a_length_that_no_exporter_keeps_is_an_error(export_network, monkeypatch, tmp_path):
    def broken(*_: object) -> None:
        raise RuntimeError("the fallback is out of order.")

    monkeypatch.setattr(to_onnx, "_legacy", broken)

    with pytest.raises(exporter.ConversionError, match="the fallback is out of order"):
        export_network("Recurrent", arguments={"kind": "RNN"})
    assert not (tmp_path / "Recurrent").exists()


def test_padding_is_used_where_the_network_looks_away_from_it_and_the_longest_sequence_is_found(export_network):
    exported, network = export_network("Masked", inputs=["input_ids=tokens[batch,length]"])

    spec = exported.manifest.inputs[0]
    assert (spec.max_length, spec.pad_id) == (40, 0)
    model = runtime.load(exported.artifact, device="cpu")
    sequences = [[5], [6, 7, 8], [9] * 8, [3] * 40, [1, 2]]
    # Of like length, and so in one batch.
    assert len({model.bucket(model.prepare(tokens)) for tokens in sequences}) == 2
    for tokens, result in zip(sequences, model.predict(sequences), strict=True):
        expected = torch.softmax(torch.from_numpy(eager(network, tokens)), dim=0).numpy()
        assert scores_of(result) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(runtime.InputError, match="too long: expected at most 40 tokens, got 41"):
        model.predict([1] * 41)


@pytest.mark.parametrize(
    ("name", "beside", "arrays"),
    [
        ("Packed", ["lengths=lengths[batch]"], lambda count: (torch.tensor([count]),)),
        (
            "Attended",
            ["attention_mask=mask[batch,length]", "padding=padding[batch,length]"],
            lambda count: (torch.ones(1, count, dtype=torch.int64), torch.zeros(1, count, dtype=torch.bool)),
        ),
    ],
)
def test_lengths_and_masks_beside_the_tokens_are_made_by_the_host(export_network, name, beside, arrays):
    """The user gives sequences alone; in a batch, padding with any token changes nothing."""
    exported, network = export_network(name, inputs=[INPUT, *beside])

    spec = exported.manifest.inputs[0]
    assert spec.pad_id == 0
    assert list(spec.derived_inputs) == [one.partition("=")[0] for one in beside]
    model = runtime.load(exported.artifact, device="cpu")
    sequences = [[5], [6, 0, 8], [9] * 8, [3] * 40, [1, 2], [0] * 7]
    assert len({model.bucket(model.prepare(tokens)) for tokens in sequences}) < len(sequences)
    for tokens, result in zip(sequences, model.predict(sequences), strict=True):
        with torch.no_grad():
            scores = network(torch.tensor([tokens]), *arrays(len(tokens)))[0]
        assert scores_of(result) == pytest.approx(torch.softmax(scores, dim=0).numpy(), abs=1e-6)
    assert verify(exported.artifact, device="cpu").passed


def test_a_network_that_wants_its_sequences_sorted_gets_those_of_one_length(export_network):
    exported, network = export_network(
        "Packed", arguments={"kind": "GRU", "is_sorted": True}, inputs=[INPUT, "lengths=lengths[batch]"]
    )

    assert exported.manifest.inputs[0].pad_id is None
    for tokens in ([5], [6, 7, 8], [3] * 40):
        with torch.no_grad():
            scores = network(torch.tensor([tokens]), torch.tensor([len(tokens)]))[0]
        found = runtime.load(exported.artifact, device="cpu").predict(tokens)
        assert scores_of(found) == pytest.approx(torch.softmax(scores, dim=0).numpy(), abs=1e-6)


def test_a_network_that_looks_at_padding_is_found_out(export_network):
    exported, _ = export_network("Recurrent", pad_id=0)

    assert exported.manifest.inputs[0].pad_id is None
    assert "depend on padding" in next(step.finding for step in exported.steps if step.name == "preprocessing")


def test_a_forward_that_gives_a_sequence_gives_token_numbers_and_words(export_network, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("red\ngreen\nblue\nwhite\nblack\n")

    exported, network = export_network(
        "Tagger", arguments={"kind": "LSTM", "bidirectional": True, "layers": 2}, labels=words
    )

    assert exported.manifest.task.kind == "tokens"
    model = runtime.load(exported.artifact, device="cpu")
    for tokens in ([4], [1, 2, 3], [7, 8, 9, 10] * 12):
        result = model.predict(tokens)
        assert list(result.tokens) == eager(network, tokens).argmax(axis=1).tolist()
        assert list(result.words) == [words.read_text().split()[number] for number in result.tokens]


def test_greedy_decoding_is_a_loop_in_the_graph_and_ends_where_eager_does(export_network):
    exported, network = export_network("Decoder")

    graph = onnx.load(exported.artifact / "model.onnx", load_external_data=False).graph
    assert [node.op_type for node in graph.node].count("Loop") == 1
    model = runtime.load(exported.artifact, device="cpu")
    generator = np.random.default_rng(0)
    lengths = [1, 2, 3, 5, 9, 17, 31] * 8
    sequences = [generator.integers(3, 20, length).tolist() for length in lengths]
    steps = set()
    for tokens, result in zip(sequences, model.predict(sequences), strict=True):
        given = eager(network, tokens).tolist()
        expected = given[: given.index(2)] if 2 in given else given
        assert list(result.tokens) == expected
        steps.add(len(expected))
    assert len(steps) > 2  # some ended early, at different steps, and some in one batch
    assert verify(exported.artifact, device="cpu").passed


def test_a_decoder_whose_halves_are_not_its_forward_is_not_written(export_network, tmp_path):
    with pytest.raises(exporter.ParityError, match="not equal to the eager model"):
        export_network("Strayed")
    assert not (tmp_path / "Strayed").exists()


def test_a_loop_that_would_be_unrolled_is_refused_with_what_to_do(export_network):
    with pytest.raises(
        exporter.ConversionError, match=r"'tokens' ran 5 times for 4 tokens and 10 times for 9\. .*'step"
    ):
        export_network("Unrolled")


def test_a_loop_that_ends_where_a_value_says_is_refused_though_a_trace_of_it_would_pass(export_network):
    """With these weights no sequence ends early, so every comparison with the unrolled graph would agree."""
    with pytest.raises(exporter.ConversionError, match="'tokens' ran 7 times, and whether it goes on depends on"):
        export_network("Stopping")


def test_a_loop_of_a_fixed_number_of_steps_is_no_loop(networks):
    network = networks.Steady().eval()

    probe = SequenceProbe(draw=lambda batch, length: torch.ones(batch, length, dtype=torch.int64), call=network)
    check_no_python_loop(network, probe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ["x=tokens[batch]"]}, r"expected NAME=tokens\[batch,length\]"),
        ({"inputs": [INPUT, "y=float32[batch,2]"]}, r"expected NAME=tokens\[batch,length\], and beside it"),
        ({"inputs": ["y=lengths[batch]", INPUT]}, "the first of them"),
        ({"inputs": [INPUT, "more=tokens[batch,length]"]}, "expected one NAME"),
        ({"pad_id": 20}, "outside the vocabulary: expected 0 to 19, got 20"),
        ({"max_length": 0}, "expected at least 1 token, got 0"),
    ],
)
def test_wrong_options_are_refused(export_network, options, message):
    with pytest.raises(exporter.ExportError, match=message):
        export_network("Recurrent", **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [("one\ntwo words\n", "line 2 is not a word"), ("one\none\n", "line 2 repeats line 1"), ("", "empty")],
)
def test_a_vocabulary_has_a_word_a_line(export_network, tmp_path, text, message):
    path = tmp_path / "words.txt"
    path.write_text(text)

    with pytest.raises(exporter.ExportError, match=message):
        export_network("Recurrent", vocabulary=path)


def test_the_cases_have_every_length_up_to_the_traced_one_and_lengths_beyond_it(networks):
    network = networks.Recurrent()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapter = TokensAdapter(
            TokenInputs(name="tokens"), network, TokenOptions(), call=lambda tensors: network(*tensors.values())
        )
    lengths = {adapter.prepare(case).arrays["tokens"].shape[1] for case in adapter.cases()}
    traced = adapter.example(())["tokens"].shape[1]
    assert lengths >= set(range(1, 2 * traced))
    assert max(lengths) > 20 * traced


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_a_bag_of_words_tells_how_many_tokens_there_are_and_which_one_pads(mode):
    network = nn.Sequential(nn.EmbeddingBag(30, 4, mode=mode, padding_idx=2), nn.Linear(4, 3)).eval()

    adapter = TokensAdapter(TokenInputs(name="x"), network, TokenOptions(), call=lambda tensors: network(tensors["x"]))

    (spec,) = adapter.inputs
    assert (spec.vocabulary_size, spec.pad_id) == (30, 2)


@pytest.fixture
def writer(tmp_path):
    """Write a tiny BART with random weights that writes up to nine tokens; return it and its folder."""
    torch.manual_seed(1)
    config = transformers.BartConfig(
        vocab_size=30,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_position_embeddings=64,
        decoder_start_token_id=2,
        eos_token_id=2,
        pad_token_id=1,
        forced_eos_token_id=None,
        init_std=0.5,
    )
    model = transformers.BartForConditionalGeneration(config).eval()
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=2, eos_token_id=2, pad_token_id=1, max_new_tokens=9
    )
    model.save_pretrained(tmp_path / "hf")
    return model, tmp_path / "hf"


@pytest.mark.slow
def test_a_transformers_encoder_decoder_writes_what_its_generate_writes(writer, tmp_path):
    model, folder = writer

    exported = exporter.export(folder, f"hf:{folder}", inputs=[INPUT], out=tmp_path / "artifact")

    graph = onnx.load(exported.artifact / "model.onnx", load_external_data=False).graph
    assert [node.op_type for node in graph.node].count("Loop") == 1
    generator = np.random.default_rng(0)
    written = set()
    for length in (1, 3, 3, 7, 20, 32):
        tokens = generator.integers(3, 30, length).tolist()
        expected = model.generate(torch.tensor([tokens]), max_new_tokens=9, num_beams=1, do_sample=False)[
            0, 1:
        ].tolist()
        found = runtime.load(exported.artifact, device="cpu").predict(tokens).tokens
        assert list(found) == (expected[: expected.index(2)] if 2 in expected else expected)
        written.add(tuple(found))
    assert len(written) > 3


def test_an_encoder_decoder_that_does_not_write_greedily_is_refused(writer, tmp_path):
    model, folder = writer
    model.generation_config.num_beams = 4
    model.save_pretrained(folder)

    with pytest.raises(exporter.ArchitectureError, match=r"asks for num_beams=4: expected the likeliest token"):
        exporter.export(folder, f"hf:{folder}", inputs=[INPUT], out=tmp_path / "artifact")


def test_an_encoder_decoder_takes_token_numbers(writer, tmp_path):
    with pytest.raises(exporter.PreprocessingError, match="takes and gives token numbers"):
        exporter.export(writer[1], f"hf:{writer[1]}", out=tmp_path / "artifact")
