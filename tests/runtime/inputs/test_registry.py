"""Registry of the input kinds: complete, and asked for everything that differs by kind."""

from importlib import import_module
from typing import get_args

import pytest

from runtime.inputs.payload import Payload
from runtime.inputs.registry import COMPOSITE, INPUT_KINDS, extras_of, is_costly_to_decode, kind_name, kind_of
from runtime.manifest import Column, ImageInput, Input, Preprocessing, TabularInput, TensorInput, TextInput, TokensInput

PREPROCESSING = Preprocessing(geometry=(), arithmetic=(), height=2, width=2, channels=3)
IMAGE = ImageInput(name="image", mode="RGB", exif=False, preprocessing=PREPROCESSING)
BANDS = ImageInput(name="image", mode="bands", exif=False, preprocessing=PREPROCESSING)
TENSOR = TensorInput(name="x", dtype="float32", shape=("batch", 2))
ROW = TabularInput(name="row", columns=(Column(name="age", dtype="float32"),))
TEXT = TextInput(name="text", tokenizer="tokenizer.json", arrays=("input_ids",), max_length=8)
TOKENS = TokensInput(name="tokens", vocabulary_size=4)


def resolve(reference):
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def test_every_input_of_the_manifest_has_a_kind():
    assert set(INPUT_KINDS) == set(get_args(Input))


@pytest.mark.parametrize("kind", [*INPUT_KINDS.values(), COMPOSITE], ids=lambda kind: kind.example)
def test_a_kinds_code_is_where_its_entry_says(kind):
    assert callable(resolve(kind.decoder))
    assert callable(resolve(kind.source))
    assert issubclass(resolve(kind.payload), Payload)


@pytest.mark.parametrize("spec", [IMAGE, TENSOR, ROW, TEXT, TOKENS], ids=lambda spec: spec.kind)
def test_a_kinds_folder_is_named_like_its_tag_in_the_manifest(spec):
    assert kind_of([spec]).decoder.startswith(f"runtime.inputs.{spec.kind}.decoder:")
    assert kind_name([spec]) == spec.kind


def test_several_inputs_are_a_kind_of_their_own():
    assert kind_of([TENSOR, TENSOR]).decoder == COMPOSITE.decoder
    assert kind_name([TENSOR, TENSOR]) == "several"


def test_several_inputs_are_prepared_as_far_as_any_of_them_is():
    assert kind_of([IMAGE, ROW]).prepared_stage == "geometry"
    assert kind_of([TEXT, IMAGE]).prepared_stage == "tokens"
    assert kind_of([TENSOR, ROW]).prepared_stage == kind_of([ROW]).prepared_stage == "decode"
    assert kind_of([IMAGE, IMAGE]).prepared_unit == "gray levels"
    assert kind_of([IMAGE, ROW]).prepared_unit == "values"


def test_a_server_needs_the_extras_of_its_inputs():
    assert extras_of([IMAGE]) == ()
    assert extras_of([BANDS]) == ("tiff",)
    assert extras_of([TEXT, TEXT, TENSOR]) == ("text",)


def test_images_are_what_costs_time_to_decode():
    assert is_costly_to_decode([TENSOR, IMAGE])
    assert not is_costly_to_decode([TENSOR, ROW, TEXT, TOKENS])
