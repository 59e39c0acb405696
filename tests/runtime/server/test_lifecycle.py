"""Server lifecycle: verified before ready, swapped without a failed request, drained at the end."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest


def test_an_artifact_with_wrong_outputs_is_not_served(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest["inputs"][0]["preprocessing"]["geometry"][0].update(size=44))
    command = [
        sys.executable,
        "-m",
        "truecopy",
        "serve",
        str(copy),
        "--http-port",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 1
    assert "does not reproduce the eager model's outputs" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nowhere",), "no such folder"),
        (("{tiny}", "{tiny}"), "two models of this name"),
        (("a/b={tiny}",), "no name for a path"),
        (("{tiny}", "--tls-cert", "x.pem"), "both or neither"),
        (("{tiny}", "--tls-cert", "/dev/zero", "--tls-key", "/dev/zero"), "expected a PEM file"),
        (("{tiny}", "--memory-limit", "20"), "--memory-limit: too little"),
        (("{tiny}", "--host", "203.0.113.77"), "cannot listen"),
        (("{tiny}", "--host", "x" * 5000), "cannot listen: no host name"),
    ],
)
def test_what_cannot_be_served_is_one_line(tiny, arguments, reason):
    formatted = [argument.format(tiny=tiny) for argument in arguments]
    command = [sys.executable, "-m", "truecopy", "serve", *formatted, "--http-port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_one_port_for_both_protocols_is_refused(tiny):
    command = [sys.executable, "-m", "truecopy", "serve", str(tiny), "--http-port", "18999", "--grpc-port", "18999"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 1
    assert done.stderr == "error: --http-port, --grpc-port: both 18999: expected two ports. Change one of them.\n"


class Load(threading.Thread):
    """Sends requests without a pause until ``enough`` is set; a refused connection ends it, other errors are kept."""

    def __init__(self, url, body):
        super().__init__()
        self.url, self.body = url, body
        self.responses, self.failures = [], []
        self.enough = threading.Event()

    def run(self):
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self.enough.is_set():
                try:
                    self.responses.append(client.post(self.url, content=self.body))
                except httpx.ConnectError:
                    return
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    return


def under_load(server, cat, count=4):
    loads = [Load(f"{server.url}/predict/tiny", cat) for _ in range(count)]
    for load in loads:
        load.start()
    while not all(load.responses for load in loads):
        time.sleep(0.01)
    return loads


def test_sigterm_under_load_finishes_requests_in_flight_and_exits_with_0(start, tiny, cat):
    with start(tiny, "--drain-s", 10) as server:
        loads = under_load(server, cat)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        status = server.process.wait(timeout=20)
        seconds = time.monotonic() - started
        for load in loads:
            load.join(timeout=30)

    assert status == 0
    assert seconds < 10
    assert [load.failures for load in loads] == [[]] * len(loads)
    assert {response.status_code for load in loads for response in load.responses} == {200}
    assert {load.responses[-1].headers.get("connection") for load in loads} == {"close"}
    assert server.other_lines == []


def test_sigterm_says_not_ready_first(start, tiny):
    with start(tiny, "--drain-s", 8) as server:
        assert server.get("/v2/health/ready").status == 200
        server.signal(signal.SIGTERM)
        server.wait_for("stopping")
        response = server.get("/v2/health/ready")
        assert (response.status, response.json) == (503, {"ready": False})
        assert response.headers["connection"] == "close"
        assert server.process.wait(timeout=20) == 0


@pytest.fixture
def retrained(copy, tiny, rehash):
    """An artifact beside ``copy`` whose labels have other names, in its golden set as well."""
    fresh = copy.with_name("fresh")
    shutil.copytree(tiny, fresh)
    labels = "".join(f"new {label}\n" for label in ("cat", "coffee", "rocket", "astronaut"))
    (fresh / "labels.txt").write_text(labels)
    with np.load(fresh / "golden.npz") as golden:
        arrays = {
            name: np.array([f"new {label}" for label in array]) if name.endswith("/labels/label") else array
            for name, array in golden.items()
        }
    np.savez(fresh / "golden.npz", **arrays)
    for name in ("labels.txt", "golden.npz"):
        rehash(fresh, name)
    return fresh


@pytest.mark.parametrize("how", ["--watch", "SIGHUP"])
def test_an_artifact_is_swapped_without_a_failed_request(start, copy, retrained, cat, how):
    with start(f"tiny={copy}", *(["--watch"] if how == "--watch" else [])) as server:
        loads = under_load(server, cat, count=3)
        copy.rename(copy.with_name("old"))
        retrained.rename(copy)
        if how == "SIGHUP":
            server.signal(signal.SIGHUP)
        server.wait_for("swapped")
        time.sleep(0.3)
        for load in loads:
            load.enough.set()
            load.join(timeout=30)

    labels = [response.json()["predictions"][0]["label"] for load in loads for response in load.responses]
    assert [load.failures for load in loads] == [[]] * 3
    assert set(labels) == {"cat", "new cat"}


def test_files_that_are_copied_one_by_one_are_swapped_in_when_they_are_complete(start, copy, retrained, cat):
    """As rsync does it: each file by a rename, in the order of names, which has the manifest before the weights."""
    with start(f"tiny={copy}", "--watch") as server:
        for source in sorted(retrained.iterdir()):
            if (copy / source.name).read_bytes() != source.read_bytes():
                partial = copy / f".{source.name}.Xq7"
                shutil.copyfile(source, partial)
                partial.rename(copy / source.name)
                time.sleep(1.3)  # longer than the watch takes to look again
                assert server.post("/predict/tiny", cat).json["predictions"][0]["label"] in {"cat", "new cat"}
        server.wait_for("swapped")

        assert server.post("/predict/tiny", cat).json["predictions"][0]["label"] == "new cat"


def test_an_artifact_that_fails_to_verify_is_not_swapped_in(start, copy, cat, edit_manifest):
    with start(f"tiny={copy}") as server:
        edit_manifest(copy, lambda manifest: manifest["inputs"][0]["preprocessing"]["geometry"][0].update(size=44))
        server.signal(signal.SIGHUP)
        kept = server.wait_for("kept")
        (copy / "truecopy.json").write_text("{}")
        server.signal(signal.SIGHUP)
        server.wait_for("kept", count=2)

        assert "not reproduce the eager model's outputs" in kept["error"]
        assert server.post("/predict/tiny", cat).json["predictions"][0]["label"] == "cat"
        assert 'truecopy_reloads_total{model="tiny",outcome="kept"} 2.0' in server.get("/metrics").body.decode()


def test_two_models_under_names_of_their_own(start, tiny, cat):
    with start(f"a={tiny}", f"b={tiny}", "--grpc-port", -1) as server:
        assert server.get("/v2/models").json == {"models": ["a", "b"]}
        assert server.post("/predict/b", cat).json["model"] == "b"
        assert server.get("/v2/models/a").json["name"] == "a"
        assert server.grpc == ""


def test_the_first_response_comes_soon(start, tiny, cat):
    started = time.monotonic()
    with start(tiny) as server:
        assert server.post("/predict/tiny", cat).status == 200
        assert time.monotonic() - started < 10  # 2 s on an idle machine; 'scripts/bench server' measures it


def test_every_response_belongs_to_its_request(start, tiny):
    """64 at once, each with its own pixels, batched: each response is the one that the input gets alone."""
    import asyncio

    import runtime

    model = runtime.load(tiny, device="cpu")
    colors = [
        (red, green, blue) for red in range(0, 240, 60) for green in range(0, 240, 60) for blue in range(0, 240, 60)
    ]
    images = [np.full((9 + index % 5, 7, 3), color, np.uint8) for index, color in enumerate(colors)]
    alone = [model.score([model.prepare(image)])[0] for image in images]

    async def send_all(url):
        gate = asyncio.Semaphore(64)

        async def send(image):
            tensor = {"name": "image", "datatype": "UINT8", "shape": [1, *image.shape], "data": image.ravel().tolist()}
            async with gate:
                return await client.post(f"{url}/v2/models/tiny/infer", json={"inputs": [tensor]})

        async with httpx.AsyncClient(timeout=30, trust_env=False, limits=httpx.Limits(max_connections=64)) as client:
            return await asyncio.gather(*map(send, images))

    for batching in ("on", "off"):
        with start(tiny, "--batching", batching) as server:
            responses = asyncio.run(send_all(server.url))
            statistics = server.get("/v2/models/tiny/stats").json["model_stats"][0]

        assert {response.status_code for response in responses} == {200}
        for response, scores in zip(responses, alone, strict=True):
            assert np.allclose(json.loads(response.content)["outputs"][0]["data"], scores, atol=1e-5)
        sizes = [row["batch_size"] for row in statistics["batch_stats"]]
        assert (max(sizes) > 1) == (batching == "on")


@pytest.mark.parametrize("batching", ["on", "off"])
def test_bad_requests_spoil_no_neighbour(start, tiny, cat, rocket, batching):
    good = {"cat": cat, "rocket": rocket}
    with start(tiny, "--batching", batching) as server:
        loads = {
            name: [Load(f"{server.url}/predict/tiny", body) for _ in range(3)]
            for name, body in {**good, "garbage": b"garbage", "truncated": cat[: len(cat) // 2]}.items()
        }
        for group in loads.values():
            for load in group:
                load.start()
        until = time.monotonic() + 60
        while min(sum(len(load.responses) for load in group) for group in loads.values()) < 20:
            assert time.monotonic() < until, "20 responses of each kind"
            time.sleep(0.05)
        for group in loads.values():
            for load in group:
                load.enough.set()
                load.join(timeout=30)

    for name, group in loads.items():
        responses = [response for load in group for response in load.responses]
        if name in good:
            labels = {response.json()["predictions"][0]["label"] for response in responses}
            assert labels == {name}
        else:
            assert {response.status_code for response in responses} == {400}


def test_a_drain_has_its_limit(start, tiny):
    """A client that never finishes its request cannot keep the process from ending."""
    with start(tiny, "--drain-s", 1.5) as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            connection.sendall(b"POST /predict/tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc")
            time.sleep(0.2)
            started = time.monotonic()
            server.signal(signal.SIGTERM)
            assert server.process.wait(timeout=20) == 0
            assert 0.5 < time.monotonic() - started < 5
