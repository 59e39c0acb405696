"""Admission: what is accepted, and what is refused before any work."""

import concurrent.futures
import contextlib
import http.client
import io
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
from oip_table.target import Request
from PIL import Image

from runtime.errors import InputError
from runtime.server.admission import Admission, BodyReservation
from runtime.server.context import RequestContext
from runtime.server.errors import DeadlineError, QueueFullError, TooLargeError
from runtime.server.limits import MIB, Limits, limits_for_memory


def new_context(seconds=30.0):
    now = time.monotonic()
    return RequestContext(request_id="test", started=now, deadline=now + seconds)


def test_the_queue_is_bounded_and_says_when_to_try_again():
    admission = Admission(Limits(queue=4), workers=2)
    admission.enter(2, new_context())
    admission.leave(2, busy_s=4.0)
    admission.enter(3, new_context())

    with pytest.raises(QueueFullError, match="queue is full") as caught:
        admission.enter(2, new_context())

    assert caught.value.retry_after_s == pytest.approx(2.0)
    admission.enter(1, new_context())


def test_a_client_is_never_told_to_try_again_in_0_s():
    """The message and the number of the header are the same."""
    admission = Admission(Limits(queue=1), workers=1)
    admission.enter(1, new_context())

    with pytest.raises(QueueFullError, match="Try again in 1 s") as caught:
        admission.enter(1, new_context())

    assert caught.value.retry_after_s == 1


def test_a_wait_is_rounded_up():
    admission = Admission(Limits(queue=1), workers=1)
    admission.enter(1, new_context())
    admission.leave(1, busy_s=1.2)
    admission.enter(1, new_context())

    with pytest.raises(QueueFullError, match="Try again in 2 s") as caught:
        admission.enter(1, new_context())

    assert caught.value.retry_after_s == 2


def test_a_request_that_would_be_late_anyway_is_refused_at_once():
    admission = Admission(Limits(queue=100), workers=1)
    admission.enter(1, new_context())
    admission.leave(1, busy_s=1.0)
    admission.enter(10, new_context())

    with pytest.raises(QueueFullError, match="too long for its deadline"):
        admission.enter(1, new_context(seconds=5))
    admission.enter(1, new_context(seconds=15))


def test_a_request_whose_deadline_has_passed_is_late_and_not_refused():
    """Trying again would not help it: 504, not 429."""
    with pytest.raises(DeadlineError):
        Admission(Limits(), workers=1).enter(1, new_context(seconds=-1))


def test_a_request_larger_than_the_queue_never_waits():
    with pytest.raises(TooLargeError, match="too many inputs"):
        Admission(Limits(queue=4), workers=1).enter(5, new_context())


def test_held_bytes_are_bounded_and_released():
    admission = Admission(Limits(held_bytes=100), workers=1)
    with BodyReservation(admission) as reservation:
        reservation.extend(80)
        with pytest.raises(QueueFullError), BodyReservation(admission) as other:
            other.extend(30)
        assert admission.held_bytes == 80
    assert admission.held_bytes == 0


def test_a_context_raises_when_its_deadline_has_passed():
    late = new_context(seconds=-1)
    with pytest.raises(DeadlineError):
        late.check()


def test_memory_becomes_limits():
    limits = limits_for_memory(Limits(), memory_bytes=600 * MIB, resident_bytes=200 * MIB, workers=4)

    assert limits.pixels == 200 * MIB // (4 * 8)
    assert limits.held_bytes == 200 * MIB
    assert limits.body_bytes == 32 * MIB
    with pytest.raises(InputError, match="--memory-limit"):
        limits_for_memory(Limits(), memory_bytes=210 * MIB, resident_bytes=200 * MIB, workers=4)


@pytest.fixture(scope="module")
def small(start, tiny):
    """A server with room for little."""
    with start(tiny, "--max-queue", 4, "--max-body-mb", 0.5, "--deadline-s", 2) as running:
        yield running


def photo(size):
    stream = io.BytesIO()
    Image.effect_noise((size, size), 60).convert("RGB").save(stream, "JPEG", quality=60)
    return stream.getvalue()


def test_a_full_queue_is_429_with_retry_after(start, tiny):
    large = photo(1500)
    with start(tiny, "--max-queue", 4) as server, concurrent.futures.ThreadPoolExecutor(24) as pool:
        responses = list(pool.map(lambda _: server.post("/predict/tiny", large), range(72)))

        statuses = [response.status for response in responses]
        assert set(statuses) == {200, 429}
        assert all(int(response.headers["retry-after"]) >= 1 for response in responses if response.status == 429)
        metrics = server.get("/metrics").body.decode()
        rejected = f'truecopy_rejected_total{{reason="QueueFullError"}} {statuses.count(429)}.0'
        assert rejected in metrics
        assert "truecopy_inputs_in_flight 0.0" in metrics
        assert "truecopy_body_bytes 0.0" in metrics


def test_a_full_queue_refuses_before_the_body_is_sent(start, tiny):
    large = photo(3000)
    with start(tiny, "--max-queue", 2) as server, concurrent.futures.ThreadPoolExecutor(4) as pool:
        address = urlsplit(server.url)
        enough = threading.Event()

        def keep_busy():
            while not enough.is_set():
                server.post("/predict/tiny", large)

        busy = [pool.submit(keep_busy) for _ in range(4)]
        response, until = b"", time.monotonic() + 30
        while not response.startswith(b"HTTP/1.1 429") and time.monotonic() < until:
            with socket.create_connection((address.hostname, address.port), timeout=0.5) as connection:
                connection.sendall(b"POST /predict/tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n")
                with contextlib.suppress(TimeoutError):  # there was room, and the server waits for the body
                    response = connection.recv(1000)
        enough.set()
        for future in busy:
            future.result()

    assert response.startswith(b"HTTP/1.1 429")
    assert b"retry-after" in response


def test_a_declared_length_is_refused_before_the_body_is_sent(small):
    address = urlsplit(small.url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        connection.sendall(b"POST /predict/tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_is_refused_once_it_is_too_long(small):
    address = urlsplit(small.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.request(
        "POST", "/predict/tiny", iter([b"x" * 65536] * 9), {"Transfer-Encoding": "chunked"}, encode_chunked=True
    )
    response = connection.getresponse()
    assert response.status == 413
    assert "body: too large" in json.loads(response.read())["error"]
    connection.close()


def test_more_inputs_than_the_queue_holds_is_413(small, cat):
    target = small.target()
    response = target.send(target.infer({"inputs": [target.text_input(5)]}))

    assert response.status == 413


def test_a_body_that_does_not_come_is_504(small):
    address = urlsplit(small.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"POST /predict/tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        started = time.monotonic()
        assert connection.recv(100).startswith(b"HTTP/1.1 504")
        assert 1.5 < time.monotonic() - started < 5


def test_headers_without_end_are_refused(small):
    address = urlsplit(small.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n")
        header = f"X-Long: {'y' * 1000}\r\n".encode()
        with pytest.raises(ConnectionError):
            connection.sendall(header * 10_000)
    assert small.get("/v2").status == 200


def test_the_clients_own_deadline_counts(small, cat):
    response = small.post("/predict/tiny", cat, X_Request_Timeout="0.000001")
    assert response.status == 504
    target = small.target()
    short = target.infer({"inputs": [target.text_input()], "parameters": {"timeout": 1}})
    assert target.send(short).status in {429, 504}


def test_work_of_disconnected_clients_is_dropped(start, tiny):
    """Requests whose clients hang up at once must not keep the workers busy for those who stay."""
    large = photo(2500)
    with start(tiny) as server:
        address = urlsplit(server.url)
        head = f"POST /predict/tiny HTTP/1.1\r\nHost: x\r\nContent-Length: {len(large)}\r\n\r\n".encode()
        leaving = [socket.create_connection((address.hostname, address.port), timeout=10) for _ in range(30)]
        for connection in leaving:
            connection.sendall(head + large)
        for connection in leaving:
            connection.close()
        server.wait_for("request", count=30)
        statuses = [row["status"] for row in server.log if row.get("path") == "/predict/tiny"]
        assert statuses.count(499) >= 15
        assert set(statuses) <= {200, 499}
        # The two that were being decoded when their clients disconnected are dropped after that.
        until = time.monotonic() + 10
        while "truecopy_inputs_in_flight 0.0" not in server.get("/metrics").body.decode():
            assert time.monotonic() < until
            time.sleep(0.02)


def test_health_is_fast_while_the_cores_are_busy(start, tiny):
    large = photo(2000)
    with start(tiny) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(server.post, "/predict/tiny", large) for _ in range(30)]
        times = []
        while not all(future.done() for future in busy):
            started = time.monotonic()
            assert server.send(Request(method="GET", path="/v2/health/ready")).status == 200
            times.append(time.monotonic() - started)
        assert all(future.result().status == 200 for future in busy)

    assert len(times) > 10
    assert sorted(times)[int(len(times) * 0.9)] < 0.25


def test_bytes_are_held_when_they_arrive_and_not_when_they_are_declared(start, tiny, cat):
    """Connections that send headers alone once kept everyone else out until their deadline."""
    with start(tiny, "--max-body-mb", 4, "--max-buffered-mb", 4) as server, contextlib.ExitStack() as open_connections:
        address = urlsplit(server.url)
        for _ in range(8):
            connection = socket.create_connection((address.hostname, address.port), timeout=5)
            open_connections.enter_context(connection)
            connection.sendall(b"POST /predict/tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n")
        time.sleep(0.2)
        assert server.post("/predict/tiny", cat).status == 200


@pytest.mark.parametrize("value", ["0", "{}", "[]", '{"a":0}', '"a"'])
def test_countless_inputs_in_json_are_refused_before_they_are_made(server, value):
    body = ('{"inputs":[' + f"{value}," * 1_000_000 + value + "]}").encode()
    before = server.resident_mb
    response = server.post("/predict/tiny", body, Content_Type="application/json")

    assert response.status == 413
    assert "--max-queue" in response.json["error"] or "--max-body-mb" in response.json["error"]
    assert server.line_of(response.headers["x-request-id"])["ms"] < 5000
    assert server.resident_mb < before + 150


def test_rows_are_counted_by_the_shape_alone(server):
    rows = 1_000_000
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "datatype": "UINT8",
                    "shape": [rows, 1, 1, 3],
                    "parameters": {"binary_data_size": rows * 3},
                }
            ]
        }
    ).encode()
    response = server.post(
        "/v2/models/tiny/infer", header + bytes(rows * 3), Inference_Header_Content_Length=str(len(header))
    )

    assert response.status == 413
    assert "expected at most 128 in one request, got 1000000" in response.json["error"]
    assert "--max-queue" in response.json["error"]
    assert server.line_of(response.headers["x-request-id"])["ms"] < 1000


def test_one_request_may_not_hold_more_than_its_share():
    admission = Admission(Limits(body_bytes=10, held_bytes=1000), workers=1)
    with BodyReservation(admission) as reservation:
        reservation.extend(40)
        with pytest.raises(TooLargeError, match="--max-body-mb"):
            reservation.extend(1)
    assert admission.held_bytes == 0
    assert Limits(body_bytes=10, held_bytes=20).request_bytes == 20
