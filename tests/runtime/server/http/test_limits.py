"""Limits of connections: headers, trailers, pipelined requests that nobody reads, and connections without a request."""

import asyncio
import contextlib
import socket
import time
from urllib.parse import urlsplit

import pytest
import uvicorn
from uvicorn.server import ServerState

from runtime.server.http import limits
from runtime.server.http.limits import BoundedProtocol


@contextlib.contextmanager
def connected(server):
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        yield connection


def response_to(server, request):
    """Return what comes back until the connection is closed."""
    with connected(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                received += piece
    return received


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"GET /v2/health/live HTTP/1.1\r\nConnection: close\r\n", b"HTTP/1.1 400"),
        (b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n", b"HTTP/1.1 400"),
        (b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", b"HTTP/1.1 200"),
        (b"GET /v2/health/live HTTP/1.0\r\n", b"HTTP/1.1 200"),
    ],
)
def test_a_request_has_one_host(server, headers, status):
    assert response_to(server, headers + b"\r\n").startswith(status)


@pytest.mark.parametrize(("count", "status"), [(50, b"HTTP/1.1 200"), (70, b"HTTP/1.1 431")])
def test_headers_have_a_limit_together(server, count, status):
    headers = b"".join(b"X-%d: " % number + b"x" * 990 + b"\r\n" for number in range(count))
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers + b"\r\n"

    assert response_to(server, request).startswith(status)


def test_one_header_without_an_end_is_refused(server):
    assert response_to(server, b"GET /v2 HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000).startswith(b"HTTP/1.1 431")


def test_trailers_without_an_end_are_neither_kept_nor_read_for_ever(server):
    head = b"POST /predict/tiny HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    before_mb = server.resident_mb
    sent = 0
    with connected(server) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(head)
        while sent < 200 * 2**20:
            connection.sendall(b"".join(b"T%d: " % number + b"x" * 1000 + b"\r\n" for number in range(200)))
            sent += 200_000

    assert sent < 20 * 2**20
    assert server.resident_mb - before_mb < 50


@pytest.mark.parametrize(("size", "is_taken"), [(1, False), (300, True)])
def test_a_body_has_no_countless_tiny_chunks(server, size, is_taken):
    """A megabyte of chunks of one byte held the event loop for 0.4 s."""
    head = b"POST /predict/tiny HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)

    response = response_to(server, head + chunk * 12_000 + b"0\r\n\r\n")

    assert (b"not an image" in response or b"cannot be decoded" in response) == is_taken


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [
        (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", b"Invalid character in Content-Length"),
        (
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"Invalid character in chunk size",
        ),
        (b"\x16\x03\x01", b"whether the client means https"),
    ],
)
def test_what_is_no_http_says_why(server, request_bytes, reason):
    response = response_to(server, request_bytes)

    assert response.startswith(b"HTTP/1.1 400")
    assert reason in response
    assert response.count(b"HTTP/1.1") == 1


def test_a_request_followed_by_something_else_has_its_response(server):
    """A Content-Length that is too short leaves bytes of the body: they are no request."""
    request = b"POST /predict/none HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nthe rest of it"
    health = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"

    received = response_to(server, health + request)

    assert received.startswith(b"HTTP/1.1 200")
    assert b"model 'none': not served here" in received
    assert received.count(b"HTTP/1.1") == 2


def test_pipelined_requests_whose_responses_nobody_reads_are_bounded(server):
    before_mb = server.resident_mb
    request = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
    sent = 0
    with connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(1.5)
        with contextlib.suppress(OSError):
            while sent < 100_000:
                connection.sendall(request * 100)
                sent += 100

        assert server.resident_mb - before_mb < 50
    assert server.get("/v2/health/live").status == 200


def test_pipelined_requests_whose_responses_are_read_have_them(server):
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n"
    received = response_to(server, (request + b"\r\n") * 20 + request + b"Connection: close\r\n\r\n")

    assert received.count(b"HTTP/1.1 200") == 21


def test_connections_without_a_request_do_not_starve_health(start, tiny, cat):
    with start(tiny, "--max-connections", 16) as server, contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(server))
        time.sleep(0.1)

        assert server.get("/v2/health/ready").status == 200
        assert server.post("/predict/tiny", cat).status == 200


class Recorder(asyncio.Transport):
    """A connection that keeps what is written to it, write by write."""

    def __init__(self):
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes = []
        self.closed = False

    def write(self, data):
        self.writes.append(bytes(data))

    def writelines(self, pieces):
        self.write(b"".join(pieces))

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


async def two_pieces(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await send({"type": "http.response.body", "body": b"cd"})


async def whole_response(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def no_body(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def half_a_response(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})


@pytest.mark.parametrize(
    ("app", "head", "ends"),
    [
        (two_pieces, "GET / HTTP/1.1", [b"\r\n\r\nab", b"cd"]),
        (two_pieces, "HEAD / HTTP/1.1", [b"\r\n\r\n"]),
        (two_pieces, "POST / HTTP/1.1\r\nExpect: 100-continue", [b"Continue\r\n\r\n", b"\r\n\r\nab", b"cd"]),
        (no_body, "GET / HTTP/1.1", [b"\r\n\r\n"]),
        (no_body, "GET / HTTP/1.0", [b"\r\n\r\n"]),
        (half_a_response, "GET / HTTP/1.1", [b"\r\n\r\n"]),
    ],
)
def test_the_head_of_a_response_is_written_with_the_first_piece_of_its_body(app, head, ends):
    async def respond():
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        config.load()
        transport = Recorder()
        protocol = BoundedProtocol(config, ServerState(), {}, most_connections=1)
        protocol.connection_made(transport)
        protocol.data_received(f"{head}\r\nHost: a\r\n\r\n".encode())
        await asyncio.gather(*protocol.tasks)
        protocol.connection_lost(None)
        return transport.writes

    writes = asyncio.run(respond())

    assert len(writes) == len(ends)
    assert all(write.endswith(end) for write, end in zip(writes, ends, strict=True))


@pytest.mark.parametrize(
    ("before", "begun", "is_closed"),
    [
        ("", "", True),
        ("", "GET / HTTP/1.1\r\nHo", True),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", False),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHo", True),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", False),
    ],
)
def test_headers_have_a_time_limit_of_their_own_on_a_connection_with_earlier_requests(
    before, begun, is_closed, monkeypatch
):
    """Bodies have the request's deadline, and a connection without a request uvicorn's own limit."""
    monkeypatch.setattr(limits, "_HEADER_LIMIT_S", 0.0)

    async def receive():
        config = uvicorn.Config(whole_response, lifespan="off", log_config=None)
        config.load()
        protocol = BoundedProtocol(config, ServerState(), {}, most_connections=1)
        protocol.connection_made(transport := Recorder())
        for data in filter(None, (before, begun)):
            protocol.data_received(data.encode())
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)  # the event loop's timers
        closed = transport.closed
        protocol.connection_lost(None)
        return closed

    assert asyncio.run(receive()) is is_closed
