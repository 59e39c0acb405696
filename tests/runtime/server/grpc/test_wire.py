"""The memory of a protobuf message is reserved before it is made of its bytes."""

import pytest

from runtime.errors import InputError
from runtime.server.errors import TooLargeError
from runtime.server.grpc.messages import message_class
from runtime.server.grpc.wire import check_message, read_id

REQUEST = message_class("ModelInferRequest")


def reserved(data):
    sizes = []
    check_message(data, REQUEST.DESCRIPTOR, sizes.append)
    return sum(sizes)


def request(**contents):
    message = REQUEST(model_name="m", id="seven")
    tensor = message.inputs.add(name="x", datatype="INT64", shape=[1])
    for name, values in contents.items():
        getattr(tensor.contents, name).extend(values)
    return message.SerializeToString()


def test_packed_numbers_count_as_what_they_unpack_to():
    assert reserved(request(int64_contents=[0] * 10_000)) >= 80_000
    assert reserved(request(int_contents=[0] * 10_000)) >= 40_000
    assert reserved(request(fp32_contents=[0.0] * 10_000)) < 4_000


def test_more_packed_numbers_than_are_unpacked_in_a_moment_are_refused():
    """8 MB of them are unpacked in one step, for which health checks wait."""
    with pytest.raises(TooLargeError, match="raw_input_contents"):
        reserved(request(int64_contents=[0] * 5_000_000))


@pytest.mark.parametrize("tag", [b"\x2a\x00", b"\x32\x00", b"\x3a\x00", b"\x78\x00"])
def test_a_message_of_countless_fields_is_refused_before_it_is_made(tag):
    with pytest.raises(TooLargeError, match="too many fields"):
        reserved(tag * 10**6)


def test_countless_elements_inside_a_tensor_are_refused():
    with pytest.raises(TooLargeError, match="too many fields"):
        reserved(request(bytes_contents=[b""] * 100_000))


@pytest.mark.parametrize("data", [b"\x0a\x7f", b"\x0b", b"\xff" * 20, b"\x0d\x00", b"\x2a\x02\x0a\x7f"])
def test_bytes_that_cannot_be_followed_are_no_message(data):
    with pytest.raises(InputError, match="not a protobuf message"):
        reserved(data)


def test_the_id_is_read_from_a_message_that_is_damaged_behind_it():
    assert read_id(request() + b"\x0b") == "seven"
    assert read_id(b"\xff" * 20) == read_id(b"") == ""
