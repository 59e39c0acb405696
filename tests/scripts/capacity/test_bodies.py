"""An input of any kind becomes a request whose body the server reads as that input."""

import io
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

import runtime
from capacity.bodies import to_body
from runtime.manifest import Column, ImageInput, Preprocessing, TabularInput, TensorInput, TextInput, TokensInput


def npy(values):
    stream = io.BytesIO()
    np.save(stream, np.array(values))
    return stream.getvalue()


def of(spec):
    """As much of a manifest as says what the input is."""
    return SimpleNamespace(inputs=(spec,))


IMAGE = of(
    ImageInput(
        name="image",
        mode="RGB",
        exif=False,
        preprocessing=Preprocessing(geometry=(), arithmetic=(), height=2, width=2, channels=3),
    )
)
ROW = of(TabularInput(name="row", columns=(Column(name="age", dtype="float32"),)))
TENSOR = of(TensorInput(name="x", dtype="float32", shape=("batch", 1, 2)))
TEXT = of(TextInput(name="text", tokenizer="tokenizer.json", arrays=("input_ids",), max_length=8))
PAIR = of(TextInput(name="text", tokenizer="tokenizer.json", arrays=("input_ids",), max_length=8, pairs=True))
TOKENS = of(TokensInput(name="tokens", vocabulary_size=4))


def test_an_image_is_sent_as_it_is(photos):
    body = to_body("cat", photos["cat"], IMAGE)

    assert body.content == photos["cat"].read_bytes() == body.source
    assert body.media_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("kind", "source", "value"),
    [
        (ROW, b'{"age": 3.5, "name": "x"}', {"age": 3.5, "name": "x"}),
        (ROW, {"age": np.float64(3.5)}, {"age": 3.5}),
        (TEXT, b"a text", "a text"),
        (TEXT, "a text", "a text"),
        (PAIR, b'["a", "b"]', ("a", "b")),
        (TOKENS, b"1, 2 0", [1, 2, 0]),
        (TOKENS, b"[1, 2, 0]", [1, 2, 0]),
        (TOKENS, npy([1, 2, 0]), [1, 2, 0]),
        (TENSOR, npy([[1.5, 2.0]]), [[1.5, 2.0]]),
        (TENSOR, b"[[1.5, 2.0]]", [[1.5, 2.0]]),
    ],
)
def test_anything_else_is_json(kind, source, value):
    body = to_body("it", source, kind)

    assert body.source == value
    assert body.media_type == "application/json"
    assert msgspec.json.decode(body.content)["input"] == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize(
    ("kind", "source", "message"),
    [
        (ROW, b"{broken", "'it': not an input of this model"),
        (IMAGE, {"no": "image"}, "'it': not an encoded image: got dict"),
        (IMAGE, Path("none.jpg"), "'none.jpg': No such file"),
    ],
)
def test_what_is_none_is_one_sentence(kind, source, message):
    with pytest.raises(runtime.InputError, match=message):
        to_body("it", source, kind)
