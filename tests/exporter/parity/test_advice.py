"""Advice on a verdict follows from what was measured."""

import re

import msgspec
import pytest
import torch
from torch import nn

from exporter.conversion.network_io import call
from exporter.errors import ConversionError
from exporter.parity.advice import advise
from exporter.parity.compare import BATCHES
from exporter.parity.randomness import RANDOM
from exporter.parity.verdict import judge
from runtime.evidence import Evidence, Group, Noise, Row


def noise(stage, tensor, *, signal, size=1.0, limit=1e-5, floor=1e-6):
    return Noise(
        tensor=tensor,
        stage=stage,
        size=size,
        signal=signal,
        precision=None,
        threads=None,
        batch=None,
        floor=floor,
        limit=limit,
    )


def row(**changes):
    about = {
        "path": "model.onnx",
        "device": "cpu",
        "stage": "network",
        "group": "generated",
        "planned": 1,
        "inputs": 1,
        "fault": None,
        "finding": "",
        "worst_input": "a",
        "unit": "values",
        "difference": 0.0,
        "limit": 1e-5,
        "difference_p99": None,
        "share": None,
        "floor": 1e-6,
    }
    return Row(**{**about, **changes})


def evidence_of(rows=None, noises=(), inputs=("a", "b")):
    evidence = Evidence(
        artifact="x",
        verdict="passed",
        reason="",
        first_fault=None,
        max_ratio=10.0,
        noise=tuple(noises),
        groups=(),
        batch_sizes=(1,),
        rows=tuple(rows or [row()]),
        near_ties=(),
        tools={},
    )
    return judge(msgspec.structs.replace(evidence, groups=(Group(name="generated", inputs=tuple(inputs)),)))


def advice_on(evidence, *, right_unoptimized=False):
    return advise(evidence, right_unoptimized=right_unoptimized, exporter="dynamo")


@pytest.mark.parametrize(
    ("inner", "inputs", "expected"),
    [
        ({"signal": 1e-9}, ("a", "b"), "'logits' varies by 1.0e-09, where its values are up to 1.0e[+]00"),
        ({"signal": 0.0, "size": 0.0}, ("a", "b"), "All outputs of the network are 0"),
        ({"signal": 0.0}, ("a",), "Only one input was compared"),
    ],
)
def test_outputs_that_do_not_vary_have_the_reason_that_was_measured(inner, inputs, expected):
    constant = noise("end to end", "probabilities", signal=0.0)

    evidence = evidence_of(noises=(noise("network", "logits", **inner), constant), inputs=inputs)

    assert evidence.verdict == "inconclusive"
    assert re.search(expected, advice_on(evidence))


def test_a_saturated_softmax_is_judged_by_its_logits():
    saturated = noise("end to end", "probabilities", signal=0.0)

    assert evidence_of(noises=(noise("network", "logits", signal=5.0), saturated)).passed


@pytest.mark.parametrize(
    ("fault", "more", "expected"),
    [
        ({"stage": "geometry", "fault": "value"}, {}, "truecopy's own version of the transform, and not the model"),
        ({"fault": "value"}, {}, r"the conversion to ONNX \(dynamo\): pass --locate"),
        ({"fault": "value"}, {"right_unoptimized": True}, "onnxruntime's optimization of a graph that is right"),
        ({"fault": "error"}, {}, "onnxruntime, which fails on an input that eager takes"),
        ({"fault": "non-finite"}, {}, "a range: values overflow"),
        ({"stage": "end to end", "fault": "shape", "group": BATCHES}, {}, "the batch: its outputs have no row"),
        ({"path": "model.torchscript", "fault": "value"}, {}, "the TorchScript trace"),
    ],
)
def test_a_fault_has_its_own_cause(fault, more, expected):
    evidence = evidence_of([row(), row(finding="x", **fault)], [noise("end to end", "values", signal=1.0)])

    assert re.search(expected, advice_on(evidence, **more))


def test_a_random_model_is_advised_to_draw_no_numbers():
    evidence = judge(evidence_of(noises=[noise("end to end", "values", signal=1.0)]), random=f"{RANDOM}: twice")

    assert "Draw no random numbers in evaluation" in advice_on(evidence)


def test_whole_numbers_that_do_not_vary_are_judged_by_the_logits_before_them():
    constant = noise("end to end", "sequence", signal=0.0, limit=0.0, floor=0.0)

    varied = evidence_of(noises=(noise("network", "logits", signal=2.0), constant))
    flat = evidence_of(noises=(noise("network", "logits", signal=0.0), constant))

    assert (varied.verdict, flat.verdict) == ("passed", "inconclusive")


@pytest.mark.parametrize(
    ("network", "tensor", "remedy"),
    [
        (nn.Embedding(3, 2), torch.tensor([[7]]), "outside of what it indexes"),
        (nn.Linear(4, 2), torch.ones(1, 5), "another shape than the network takes"),
        (nn.Linear(4, 2), torch.ones(1, 4, dtype=torch.float64), "another dtype than the weights"),
        (nn.Bilinear(2, 2, 1), torch.ones(1, 2), "Its forward takes 2 inputs, 'input1' and 'input2'"),
    ],
)
def test_an_error_of_the_forward_has_the_remedy_of_its_cause(network, tensor, remedy):
    with pytest.raises(ConversionError, match=remedy):
        call(network, {"x": tensor})


def test_a_network_that_pools_at_the_end_token_says_how_to_pool_row_by_row():
    from transformers import BartConfig, BartForSequenceClassification

    sizes = dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings"), 8)
    layers = dict.fromkeys(("encoder_layers", "decoder_layers"), 1)
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 1)
    network = BartForSequenceClassification(BartConfig(vocab_size=9, **sizes, **layers, **heads)).eval()

    with pytest.raises(ConversionError, match=r"same number of <eos>.*cumsum\(1\)\.argmax\(1\)"):
        call(network, {"input_ids": torch.tensor([[4, 5, 2, 2], [4, 5, 6, 2]])})


def test_scores_that_jump_by_roundings_are_not_called_equal():
    jumping = msgspec.structs.replace(noise("end to end", "values", signal=3.0, limit=13.0), precision=1.3)
    evidence = evidence_of(noises=[jumping])

    assert evidence.verdict == "inconclusive"
    assert evidence.reason == (
        "the eager model's scores jump by roundings alone: expected some output to vary by more than 3.9e+01, got "
        "'values' by 3.0e+00"
    )
    assert "compute such steps in whole numbers" in advice_on(evidence)
    same = evidence_of(noises=[msgspec.structs.replace(jumping, signal=3e-9, limit=1e-5, precision=1e-9)])
    assert same.reason.startswith("the eager model gives every input the same scores")
