"""Tensors of every datatype, through bytes and JSON and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from runtime.errors import InputError
from runtime.server.tensors import DTYPES, count_elements, datatype_of, from_bytes, from_json, to_bytes, to_json


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
    text = str(to_json(array)).replace("True", "true").replace("False", "false").encode()
    np.testing.assert_array_equal(from_json(text, datatype, array.shape, "input", is_base64=False), array)


def test_bytes_come_back_as_they_went():
    array = np.array([[b"", b"\x00\xff"], ["größe".encode(), b"x" * 1000]], dtype=object)

    assert from_bytes(memoryview(to_bytes(array)), "BYTES", (2, 2), "input").tolist() == array.tolist()
    assert to_json(array)[2] == "größe"


def test_bf16_is_read_as_float32():
    halves = np.array([1.0, -2.5, 3e38], dtype=np.float32)
    data = (halves.view(np.uint32) >> 16).astype("<u2").tobytes()

    found = from_bytes(memoryview(data), "BF16", (3,), "input")

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, halves, rtol=0.01)


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
