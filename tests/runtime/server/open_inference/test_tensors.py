"""Tensors of every datatype, through bytes and JSON and back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from runtime.errors import InputError
from runtime.server.admission import Admission
from runtime.server.errors import TooLargeError
from runtime.server.limits import Limits
from runtime.server.open_inference import json_format, json_tensors
from runtime.server.open_inference.claims import TensorClaims
from runtime.server.open_inference.json_format import BodyFormat, request_from_body
from runtime.server.open_inference.json_tensors import from_json
from runtime.server.open_inference.tensors import (
    DTYPES,
    count_elements,
    datatype_of,
    from_bytes,
    tensor_to_json,
    to_bytes,
)


@pytest.mark.parametrize("datatype", DTYPES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_tensor_comes_back_as_it_went(datatype, data):
    shape = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    array = data.draw(
        npst.arrays(
            DTYPES[datatype],
            shape,
            elements={"allow_nan": False, "allow_infinity": False} if DTYPES[datatype].kind == "f" else None,
        )
    )

    back = from_bytes(memoryview(to_bytes(array)), datatype, array.shape, "input")

    assert datatype_of(array.dtype) == datatype
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    text = str(tensor_to_json(array)).replace("True", "true").replace("False", "false").encode()
    np.testing.assert_array_equal(from_json(text, datatype, array.shape, "input", is_base64=False), array)


LONG = np.random.default_rng(0).integers(0, 256, (3, 150, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", [LONG.ravel().tolist(), LONG.tolist(), LONG.reshape(3, -1)])
@pytest.mark.parametrize("separators", [(",", ":"), (" ,\n ", ":")])
def test_long_arrays_are_read_in_pieces_to_the_same_values(form, separators):
    array = np.asarray(form)
    shape = array.shape if array.ndim > 1 else LONG.shape
    data = b" " + json.dumps(array.tolist(), separators=separators).encode()

    array = from_json(data, "UINT8", shape, "input", is_base64=False)

    assert (array.dtype, array.shape) == (np.dtype(np.uint8), shape)
    np.testing.assert_array_equal(array, LONG.reshape(shape))


def spoilt(indices, value):
    values = LONG.tolist()
    inner = values
    for position in indices[:-1]:
        inner = inner[position]
    inner[indices[-1]] = value
    return values


@pytest.mark.parametrize(
    ("values", "shape", "message"),
    [
        (LONG.ravel().tolist()[:-1], LONG.shape, "wrong amount"),
        ([*LONG.ravel().tolist()[:-1], 256], LONG.shape, "does not fit UINT8"),
        ([*LONG.ravel().tolist()[:-1], "7"], LONG.shape, "got str among them"),
        ([*LONG.ravel().tolist()[:-1], [7]], LONG.shape, "got list among them"),
        (LONG.tolist(), (3, 150, 91, 3), "not of its shape"),
        (LONG.tolist(), (3, 13500, 3), "not of its shape|wrong amount|list among them"),
        (LONG.reshape(3, -1).tolist(), LONG.shape, "not of its shape"),
        (spoilt((2, 149, 89, 2), 1.5), LONG.shape, "got float among them"),
        (spoilt((1, 7), [[1, 2, 3]]), LONG.shape, "not of its shape"),
        (spoilt((1, 7), 5), LONG.shape, "not of its shape|expected an array"),
    ],
)
def test_long_arrays_are_refused_as_short_ones_are(values, shape, message):
    with pytest.raises(InputError, match=message):
        from_json(json.dumps(values).encode(), "UINT8", shape, "input", is_base64=False)


def read_request(body, names=("x",), reserve=lambda _: None):
    return request_from_body(
        body,
        BodyFormat(header_length=None, base64_inputs=frozenset(), raw_input="x"),
        TensorClaims(names=names, check_rows=lambda _: None, reserve=reserve),
        model="m",
        version="",
    )


@pytest.mark.parametrize("end", [b",]", b"", b"]]", b",,1]", b"] 5", b"], 5", b'], "data', b"]]}]}"])
def test_long_arrays_that_are_no_json_are_refused(end):
    with pytest.raises(InputError):
        read_request(
            b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [50000], "data": ['
            + b"1," * 49999
            + b"1"
            + end
            + b"}]}"
        )


PAIRS = b"[1,2]," * 30_000


@pytest.mark.parametrize(
    "pairs",
    [
        b"[1]2," + PAIRS + b"[3]",
        b"1[2]," + PAIRS + b"[3]",
        b"[1,2],3[,4]," + PAIRS[:-1],
        b"[1,2],[3,4],[,]," + PAIRS[:-1],
        PAIRS + b"[1,2],",
        PAIRS + b"[1,2]]",
        PAIRS + b"[1,2" + b"]]",
        PAIRS + b"[1,{}]",
    ],
)
def test_long_nested_arrays_that_are_no_json_are_refused(pairs):
    """The pieces are parsed without their brackets, which are compared with the shape."""
    for rows in (30_000, 30_001, 30_002, 30_003):
        with pytest.raises(InputError):
            read_request(
                b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [%d,2], "data": [' % rows + pairs + b"]}]}"
            )


@settings(max_examples=30, deadline=None)
@given(
    members=st.permutations(["name", "datatype", "shape", "data"]),
    lengths=st.lists(st.sampled_from([3, 20_000, 70_000]), min_size=1, max_size=3),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]),
    identity=st.sampled_from(["", '"data":[1', '{"data": [[', "\\", '\\"data"', "]}"]),
)
def test_arrays_of_any_length_stand_anywhere_in_a_request(members, lengths, separators, identity):
    tensors = [
        {"name": f"{number}", "datatype": "INT32", "shape": [length], "data": [number] * length}
        for number, length in enumerate(lengths)
    ]
    ordered = [{name: tensor[name] for name in members} for tensor in tensors]
    body = json.dumps({"id": identity, "inputs": ordered}, separators=separators).encode()

    request = read_request(body, names=[str(number) for number in range(3)])

    assert request.id == identity
    for number, length in enumerate(lengths):
        np.testing.assert_array_equal(request.inputs[str(number)], np.full(length, number, np.int32))


def test_what_is_parsed_at_once_holds_no_long_array(monkeypatch):
    """The parser holds Python's lock until its end: a request of 31 MB kept health checks waiting for 0.4 s."""
    decode, sizes = json_format._decode, []

    def decode_and_count(decoder, data, subject):
        sizes.append(len(memoryview(data)))
        return decode(decoder, data, subject)

    monkeypatch.setattr(json_format, "_decode", decode_and_count)
    data = b"[[" + b"200," * 300_000 + b"200]]"
    body = b'{"inputs": [{"name": "x", "datatype": "UINT8", "data": ' + data + b', "shape": [1, 300001]}]}'

    assert (read_request(body).inputs["x"] == 200).all()
    assert max(sizes) < 1000


def test_the_values_of_a_request_are_reserved_before_it_is_parsed():
    with pytest.raises(TooLargeError):
        read_request(
            b'{"inputs": [], "parameters": {"a": [' + b"[]," * 10_000 + b"[]]}}",
            reserve=Admission(Limits(body_bytes=100_000), workers=1).check_request,
        )


def test_reading_long_arrays_leaves_other_threads_their_turn(monkeypatch):
    """Health checks run meanwhile: the parser holds Python's lock, and so never gets more than a short piece."""
    read, sizes = json_tensors._read_piece, []

    def read_piece(piece, *given):
        sizes.append(len(piece))
        return read(piece, *given)

    monkeypatch.setattr(json_tensors, "_read_piece", read_piece)
    data = b"[" + b"200," * 300_000 + b"200]"

    array = from_json(data, "UINT8", [300_001], "input", is_base64=False)

    assert (array == 200).all()
    assert max(sizes) < 70_000
    assert sum(sizes) >= len(data)


def test_bytes_come_back_as_they_went():
    array = np.array([[b"", b"\x00\xff"], ["größe".encode(), b"x" * 1000]], dtype=object)

    assert from_bytes(memoryview(to_bytes(array)), "BYTES", (2, 2), "input").tolist() == array.tolist()
    assert tensor_to_json(array)[2] == "größe"


def test_bf16_is_read_as_float32():
    halves = np.array([1.0, -2.5, 3e38], dtype=np.float32)
    data = (halves.view(np.uint32) >> 16).astype("<u2").tobytes()

    array = from_bytes(memoryview(data), "BF16", (3,), "input")

    assert array.dtype == np.float32
    np.testing.assert_allclose(array, halves, rtol=0.01)


@pytest.mark.parametrize(
    ("text", "datatype"),
    [
        ("[1.5]", "INT32"),
        ("[true]", "INT32"),
        ("[1]", "BOOL"),
        ('["1"]', "FP32"),
        ("[300]", "UINT8"),
        ("[-1]", "UINT64"),
        ("[99999999999999999999]", "INT64"),
        ("[null]", "FP32"),
        ("[[1], [2]]", "INT32"),
        ("[[1]]", "BYTES"),
    ],
)
def test_nothing_is_converted_silently(text, datatype):
    with pytest.raises(InputError):
        from_json(text.encode(), datatype, (1,), "input", is_base64=False)


def test_a_wrong_boolean_is_refused():
    with pytest.raises(InputError, match="BOOL"):
        from_bytes(memoryview(b"\x02"), "BOOL", (1,), "input")


def test_a_shape_is_checked_before_anything_is_allocated():
    with pytest.raises(InputError, match="wrong size"):
        from_bytes(memoryview(b"abcd"), "FP32", (2**40, 2**40), "input")
    with pytest.raises(InputError, match="wrong shape"):
        count_elements([1] * 17, "input")
