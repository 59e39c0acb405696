"""Wire format of every input kind: what a client sends is what the server reads."""

import io
import time
from base64 import b64encode

import msgspec
import numpy as np
import pytest

import runtime
from runtime.errors import InputError
from runtime.inputs.datatypes import from_base64
from runtime.inputs.registry import open_payload
from runtime.manifest import Column, ImageInput, Preprocessing, TabularInput, TensorInput, TextInput, TokensInput


def npy(values):
    stream = io.BytesIO()
    np.save(stream, np.array(values))
    return stream.getvalue()


IMAGE = ImageInput(
    name="image",
    mode="RGB",
    exif=False,
    preprocessing=Preprocessing(geometry=(), arithmetic=(), height=2, width=None, channels=3),
)
ROW = TabularInput(name="row", columns=(Column(name="age", dtype="float32"), Column(name="city", dtype="string")))
TENSOR = TensorInput(name="x", dtype="float32", shape=("batch", 1, 2))
TEXT = TextInput(name="text", tokenizer="tokenizer.json", arrays=("input_ids",), max_length=8)
PAIR = TextInput(name="text", tokenizer="tokenizer.json", arrays=("input_ids",), max_length=8, pairs=True)
TOKENS = TokensInput(name="tokens", vocabulary_size=4)


@pytest.mark.parametrize(
    ("specs", "source", "expected"),
    [
        ([IMAGE], b"\xff\xd8 a photo", b"\xff\xd8 a photo"),
        ([ROW], b'{"age": 3.5, "city": "Bern"}', {"age": 3.5, "city": "Bern"}),
        ([ROW], {"age": np.float64(3.5), "city": None}, {"age": 3.5, "city": None}),
        ([TENSOR], npy([[1.5, 2.0]]), [[1.5, 2.0]]),
        ([TENSOR], b"[[1.5, 2.0]]", [[1.5, 2.0]]),
        ([TEXT], b"a text", "a text"),
        ([PAIR], b'["a", "b"]', ("a", "b")),
        ([TOKENS], b"1, 2 0", [1, 2, 0]),
        ([TOKENS], b"[1, 2, 0]", [1, 2, 0]),
        ([TOKENS], npy([1, 2, 0]), [1, 2, 0]),
        ([TENSOR, TOKENS], {"x": [[1.5, 2.0]], "tokens": np.array([1, 2])}, {"x": [[1.5, 2.0]], "tokens": [1, 2]}),
    ],
)
def test_an_inputs_json_value_is_read_back(specs, source, expected):
    payload = open_payload(specs)

    value = msgspec.json.decode(msgspec.json.encode(payload.to_json(source)))

    assert payload.from_json(value, "'#0'") == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_mark_of_a_text_in_a_request_is_no_part_of_it(encoding):
    """As a body, as a file of a form, and in a BYTES tensor."""
    text, pair, row = (open_payload([spec]) for spec in (TEXT, PAIR, ROW))
    data = "na\u00efve".encode(encoding)

    assert text.from_body(data) == text.from_file(data, "'f'") == "na\u00efve"
    assert text.rows({"text": np.array([data], dtype=object)}) == ["na\u00efve"]
    assert pair.from_file('["a", "b"]'.encode(encoding), "'f'") == ("a", "b")
    assert row.from_file('{"age": 3}'.encode(encoding), "'f'") == {"age": 3}


@pytest.mark.parametrize("data", ["caf\u00e9".encode("latin-1"), "text".encode("utf-16-le"), "text".encode("utf-32")])
def test_text_of_another_encoding_in_a_request_is_refused_with_the_fix(data):
    text, row = open_payload([TEXT]), open_payload([ROW])
    for read in (text.from_body, lambda data: text.from_file(data, "'f'"), lambda data: row.from_file(data, "'f'")):
        with pytest.raises(runtime.InputError, match=r"not text: .*Save it as UTF-8"):
            read(data)


@pytest.mark.parametrize(
    ("specs", "value", "message"),
    [
        ([IMAGE], {}, "expected an image as base64, or its pixels, got an object"),
        ([IMAGE], "not base64!", "not base64"),
        ([IMAGE], "aaaa\u00e9", "not base64: it has other than ASCII characters"),
        ([ROW], [], "expected an object with the columns by name, got a list"),
        ([TENSOR], "x.npy", "expected numbers in nested lists, got a text"),
        ([TEXT], None, "expected a text, got null"),
        ([PAIR], ["one"], "expected a list of two texts, got another"),
        ([TOKENS], 1, "expected a list of token numbers, got a number"),
        ([TENSOR, TOKENS], [], "expected an object with the parts by name, got a list"),
        ([TENSOR, TOKENS], {"x": "x.npy"}, "part 'x': expected numbers in nested lists, got a text"),
    ],
)
def test_a_json_value_of_another_type_is_named(specs, value, message):
    with pytest.raises(runtime.InputError, match=f"'#0': {message}"):
        open_payload(specs).from_json(value, "'#0'")


def test_a_pair_of_texts_in_a_file_is_json():
    payload = open_payload([PAIR])

    assert payload.from_file(b'["a", "b"]', "'f'") == ("a", "b")
    assert payload.media_types == ()
    assert payload.body_noun == ""
    with pytest.raises(runtime.InputError, match="'f'"):
        payload.from_file(b"a text", "'f'")
    assert open_payload([TEXT]).from_file(b'["a", "b"]', "'f'") == '["a", "b"]'
    assert open_payload([TEXT]).media_types == ("text/plain",)


def test_prepared_pixels_are_rows_of_an_image_model():
    pixels = np.arange(2 * 2 * 5 * 3, dtype=np.uint8).reshape(2, 2, 5, 3)

    rows = open_payload([IMAGE]).prepared_rows({"pixels": pixels})

    assert np.array_equal(np.stack(rows), pixels)


def test_other_tensors_are_not_prepared_inputs():
    assert open_payload([IMAGE]).prepared_rows({"image": np.zeros((1, 2, 2, 3), dtype=np.uint8)}) is None
    assert open_payload([TENSOR]).prepared_rows({"pixels": np.zeros((1, 2, 2, 3), dtype=np.uint8)}) is None


@pytest.mark.parametrize(
    "pixels", [np.zeros((1, 3, 5, 3), np.uint8), np.zeros((1, 2, 5, 3), np.float32), np.zeros((0, 2, 5, 3), np.uint8)]
)
def test_prepared_pixels_of_another_shape_or_type_are_named(pixels):
    with pytest.raises(runtime.InputError, match=r"input 'pixels': wrong array: expected UINT8 \[-1, 2, -1, 3\], got"):
        open_payload([IMAGE]).prepared_rows({"pixels": pixels})


def test_several_inputs_have_the_tensors_of_each():
    tensors = open_payload([IMAGE, ROW, TOKENS]).tensors()

    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in tensors] == [
        ("image", "UINT8", (-1, -1, -1, 3)),
        ("row.age", "FP32", (-1, 1)),
        ("row.city", "BYTES", (-1, 1)),
        ("tokens", "INT64", (-1, -1)),
    ]
    assert open_payload([IMAGE, ROW]).encoded_inputs == {"image"}


def test_padding_without_end_is_refused_sooner_than_base64_is_decoded():
    """Python's lock was held while all of it was gone through, over and over: health checks waited."""
    valid, padding = "QUJD" * 2**22, "=" * 2**24

    assert _seconds(lambda: from_base64(valid, "x")) > 2 * _seconds(lambda: _refused(padding))


def test_base64_may_be_quoted_as_python_writes_it():
    encoded = b64encode(b"\xff\xfe\xfd")

    for text in (str(encoded), repr(encoded.decode()), f'"{encoded.decode()}"'):
        assert from_base64(text, "x") == b"\xff\xfe\xfd"
    with pytest.raises(InputError, match="a path or an address is not opened"):
        from_base64("https://a.example/x.jpg", "x")


def _refused(text):
    with pytest.raises(InputError, match="not base64: padding before the end"):
        from_base64(text, "x")


def _seconds(function):
    started = time.thread_time()
    function()
    return time.thread_time() - started
