"""HTTP bodies: reserved as they arrive and as they unpack, in linear time."""

import asyncio
import gzip
import hashlib
import time
import tracemalloc
import zlib

import pytest

from runtime.errors import InputError
from runtime.server.admission import Admission, BodyReservation
from runtime.server.errors import QueueFullError, TooLargeError
from runtime.server.http.bodies import _receive, decompress
from runtime.server.http.forms import count_parts, read_form
from runtime.server.limits import MIB, Limits


def unpack(body, encoding="gzip", **limits):
    admission = Admission(Limits(**limits), workers=1)
    return decompress(body, encoding, admission, BodyReservation(admission))


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 300_000])
def test_streams_one_after_the_other_are_one_body(size):
    data = bytes(range(256)) * (size // 256 + 1)
    packed = gzip.compress(data[:size]) + gzip.compress(b"") + gzip.compress(data[:100])

    assert unpack(packed) == data[:size] + data[:100]
    assert unpack(zlib.compress(data), "deflate") == data


@pytest.mark.parametrize("end", [-1, -9, 5])
def test_a_stream_that_is_cut_short_is_refused(end):
    with pytest.raises(InputError, match="cut short"):
        unpack(gzip.compress(b"abc" * 50_000)[:end])


def test_what_unpacks_to_too_much_is_refused_while_it_unpacks():
    bomb = gzip.compress(bytes(64 * MIB))
    started = time.monotonic()
    with pytest.raises(TooLargeError, match="--max-body-mb"):
        unpack(bomb, body_bytes=1 * MIB)
    admission = Admission(Limits(held_bytes=64 * MIB), workers=1)
    admission.reserve(60 * MIB)
    with pytest.raises(QueueFullError, match="--max-buffered-mb"):
        decompress(bomb, "gzip", admission, BodyReservation(admission))
    assert admission.held_bytes <= 64 * MIB
    assert time.monotonic() - started < 2


def test_countless_streams_are_refused_in_no_time():
    """Each was once copied to the end of the body: 30 MB took over a minute."""
    started = time.monotonic()
    with pytest.raises(TooLargeError, match="too many gzip streams"):
        unpack(gzip.compress(b"") * 500_000)
    assert time.monotonic() - started < 2


def form(*parts):
    lines = [f"--x\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts]
    return b"".join([*lines, b"--x--\r\n"])


def test_a_form_has_its_parts_in_order():
    body = form(('name="a"; filename="b.jpg"', b"1\r\n--2"), ('name="top_k"', b"3"), ('name="f"; filename=""', b""))
    parts = read_form(body, "multipart/form-data; boundary=x")

    assert [(part.name, part.filename, part.data) for part in parts] == [
        ("a", "b.jpg", b"1\r\n--2"),
        ("top_k", None, b"3"),
        ("f", "", b""),
    ]


def test_parts_are_counted_before_they_are_made():
    assert count_parts(form(*[('name="a"; filename="b"', b"")] * 1000), "multipart/form-data; boundary=x") >= 1000


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_a_boundary_is_refused(content_type):
    with pytest.raises(InputError, match="no boundary"):
        count_parts(b"", content_type)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_form_is_read_in_pieces_to_the_same_parts(monkeypatch, size):
    body = form(('name="a"; filename="b.jpg"', b"1\r\n--2\r\n--xx"), ('name="top_k"', b"3"), ('name="f"', b"\r\n"))
    whole = read_form(body, "multipart/form-data; boundary=x")
    count = count_parts(body, "multipart/form-data; boundary=x")
    monkeypatch.setattr("runtime.server.http.forms._PIECE_BYTES", size)

    assert read_form(body, "multipart/form-data; boundary=x") == whole
    assert count_parts(body, "multipart/form-data; boundary=x") == count


class Chunked:
    """A request whose body arrives in chunks, which are made as they are asked for."""

    def __init__(self):
        self.scope = {"headers": []}
        self._numbers = iter(range(256))

    async def receive(self):
        number = next(self._numbers)
        return {"type": "http.request", "body": bytes([number]) * 65_536, "more_body": number < 255}


def test_a_body_is_not_copied_when_all_of_it_is_there():
    """Joining 32 MB kept Python's lock from the event loop, and took as much memory again."""
    admission = Admission(Limits(), workers=1)

    async def receive():
        tracemalloc.start()
        body = await _receive(Chunked(), BodyReservation(admission), admission)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return hashlib.sha256(body).digest(), peak / len(body)

    digest, share = asyncio.run(receive())

    assert digest == hashlib.sha256(b"".join(bytes([number]) * 65_536 for number in range(256))).digest()
    assert share < 1.5
