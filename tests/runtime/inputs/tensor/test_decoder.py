"""Arrays in files: whatever their bytes are, what is no array is named."""

import io
import struct
import zipfile

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.inputs.tensor.decoder import TensorDecoder
from runtime.manifest import TensorInput

DECODER = TensorDecoder(TensorInput(name="x", dtype="uint8", shape=("batch", "length")))


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.zeros(2000, np.uint8))
    return stream.getvalue()


def npy(header: str) -> bytes:
    data = header.encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(data)) + data


def test_damage_anywhere_in_an_archive_is_the_inputs_fault():
    data = npz()
    refused = 0
    for index in range(len(data)):
        for mask in (1, 8, 255):
            damaged = bytearray(data)
            damaged[index] ^= mask
            try:
                DECODER.decode(bytes(damaged), subject="'x'")
            except InputError:
                refused += 1
    assert refused > len(data)


def test_an_archive_of_countless_arrays_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(1001):
            archive.writestr(str(number), b"")

    with pytest.raises(InputError, match="too many arrays: expected at most 1000, got 1001"):
        DECODER.decode(stream.getvalue(), subject="'x'")


@pytest.mark.parametrize("shape", [f"({10**30},)", "(-1,)", "(", pytest.param("(2,),)", id="one parenthesis too many")])
def test_a_damaged_header_is_the_inputs_fault(shape):
    with pytest.raises(InputError, match="'x': not an array"):
        DECODER.decode(npy(f"{{'descr':'|u1','fortran_order':False,'shape':{shape}}}"), subject="'x'")


@pytest.mark.parametrize("values", [[3, -1, 255], [3, 256, -1]])
def test_the_number_that_does_not_fit_is_named(values):
    number = next(value for value in values if not 0 <= value < 256)
    with pytest.raises(InputError, match=f"out of range for 'x': expected values that uint8 has, got {number}"):
        DECODER.decode(values, subject="'x'")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_arrays_for_a_graph_are_finite_as_single_inputs_are(value):
    decoder = TensorDecoder(TensorInput(name="x", dtype="float32", shape=("batch", 2)))
    batch = np.array([[1, 2], [3, value]], np.float32)

    decoder.check_arrays({"x": batch[:1], "other": batch})
    with pytest.raises(InputError, match=r"inputs: not a number: expected finite values in 'x', got .* at \[1, 1\]"):
        decoder.check_arrays({"x": batch})
    TensorDecoder(TensorInput(name="x", dtype="float32", shape=("batch", 2), finite=False)).check_arrays({"x": batch})


@pytest.mark.parametrize(
    ("shape", "not_negative", "good", "bad", "position"),
    [
        ((2,), (True, False), [0, -5], [-1, 0], [0]),
        (("length",), (True,), [0, 7, 3], [0, 7, -3], [2]),
        ((), (True,), 4, -4, [0]),
    ],
)
def test_an_index_below_zero_is_refused_where_the_network_refuses_it(shape, not_negative, good, bad, position):
    decoder = TensorDecoder(TensorInput(name="x", dtype="int64", shape=("batch", *shape), not_negative=not_negative))

    decoder.check_arrays(decoder.stack([decoder.decode(good, subject="'x'").array]))
    with pytest.raises(InputError, match=rf"'x': out of range: expected no negative number in 'x'.* at \{position}"):
        decoder.decode(bad, subject="'x'")
    with pytest.raises(InputError, match="inputs: out of range"):
        decoder.check_arrays({"x": np.array([bad])})


def test_numbers_with_their_bytes_in_reverse_are_the_same_numbers():
    decoder = TensorDecoder(TensorInput(name="x", dtype="float32", shape=("batch", 2)))

    decoded = decoder.decode(np.array([1.5, -2], dtype=">f4"), subject="x")

    assert decoded.array.dtype == np.dtype("=f4")
    assert decoded.array.tolist() == [1.5, -2]
