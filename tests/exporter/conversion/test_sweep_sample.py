"""A fixed sample of 'scripts/sweep': odd networks and types of transformers, proven without the legacy exporter."""

import pytest

from sweeps import odd_networks, transformers_types


@pytest.mark.parametrize("name", ["weight norm", "several inputs", "half precision"])
def test_an_odd_network_is_proven_as_dynamo_converts_it(name, tmp_path):
    result = odd_networks.odd(name, tmp_path)

    assert result["passed"], result
    assert (result["exporter"], result["fallback"]) == ("dynamo", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "gpt2", "resnet", "vit"])
def test_a_type_of_transformers_is_proven_as_dynamo_converts_it(name, tmp_path):
    result = transformers_types.transformers_type(name, tmp_path)

    assert result["passed"], result
    assert (result["exporter"], result["fallback"]) == ("dynamo", "")


def test_the_sweep_has_sixty_types_and_25_odd_networks():
    assert len(transformers_types.TEXT) + len(transformers_types.IMAGE) >= 60
    assert len(odd_networks.ODD) >= 25


def test_every_type_has_a_configuration_of_its_own():
    for name in [*transformers_types.TEXT, *transformers_types.IMAGE]:
        config = transformers_types.build_config(name)

        assert (config.model_type, config.num_labels) == (name, transformers_types.CLASSES)
