"""Files of one array are read whole or not at all, and nothing is allocated for what they claim."""

import io

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.inputs.tensor.npy import read_npy, rows_of_npy


def save(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def claiming(shape: str, data: bytes = b"", descr: str = "'|u1'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6, dtype=">i4"),
        np.array(3.5, dtype=np.float16),
    ],
)
def test_what_numpy_saves_is_read(array):
    found = read_npy(save(array), "x")

    assert found.tolist() == array.tolist()
    assert found.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (claiming("(1000000000000, 3)"), "not a whole array: expected 3000000000000 bytes"),
        (claiming("(1000000000000, 0, 3)"), "empty: expected numbers"),
        (claiming("(3,)", b"ab"), "not a whole array: expected 3 bytes for .* got 2"),
        (claiming("(-1,)"), "not a"),
        (claiming("'x'"), "not an .npy file"),
        (claiming("(1,)", b"a", descr="[('a', '|u1')]"), "not an array of numbers"),
        (save(np.array([object()]), allow_pickle=True), "not an array of numbers"),
        (save(np.arange(9))[:-1], "not a whole array"),
        (b"\x93NUMPY\x09\x00", "not an .npy file"),
        (b"\x93NUMPY", "not an .npy file"),
    ],
)
def test_anything_else_is_refused(data, reason):
    with pytest.raises(InputError, match=f"^x: {reason}"):
        read_npy(data, "x")


def test_a_batch_is_its_entries():
    assert [row.tolist() for row in rows_of_npy(save(np.eye(2)), "x", rank=1)] == [[1, 0], [0, 1]]
    assert [row.tolist() for row in rows_of_npy(save(np.ones(2)), "x", rank=1)] == [[1, 1]]
