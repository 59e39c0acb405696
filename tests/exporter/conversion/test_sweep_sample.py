"""A fixed sample of 'scripts/sweep': odd networks and types of transformers, proven without the legacy exporter."""

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from sweeps import image_types, odd_networks, text_types, transformers_types
from sweeps.cases import CLASSES


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


def test_the_sweep_has_the_types_that_it_is_for():
    assert image_types.IMAGE.keys() == MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.keys()
    assert len(text_types.TEXT) >= 90
    assert len(odd_networks.ODD) >= 25


def test_every_type_has_a_configuration_of_its_own():
    usual = text_types.text_settings(text_types.tokenizer_of_words())
    for name, own in [*text_types.TEXT.items(), *image_types.IMAGE.items()]:
        config = transformers_types.build_config(name, usual if name in text_types.TEXT else {}, own or {})

        assert (config.model_type, config.num_labels) == (name, CLASSES)
