"""Experts of transformers' models are computed by other operators while they are exported, to the same values."""

import pytest
import torch

from exporter.conversion.experts import convertible_experts

transformers = pytest.importorskip("transformers")


def test_experts_have_the_same_values_in_the_form_that_converts():
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=30,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    network = transformers.MixtralModel(config).eval()
    ids = torch.randint(0, 30, (2, 7))

    with torch.no_grad():
        expected = network(ids).last_hidden_state
        with convertible_experts(network):
            assert network.config._experts_implementation == "batched_mm"
            actual = network(ids).last_hidden_state

    assert network.config._experts_implementation == "grouped_mm"
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)


def test_a_network_without_experts_is_left_as_it_is():
    network = torch.nn.Linear(2, 2)
    network.config = object()

    with convertible_experts(network):
        assert type(network.config) is object
