"""'truecopy deploy ray-serve': what it writes is run by Ray Serve itself, and answers as the library does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from ray_nodes import LOOPBACK, QUIET, running_nodes

import runtime

pytest.importorskip("ray", reason="the extra 'ray' is not installed")
pytest.importorskip("yaml")
pytestmark = pytest.mark.slow

TRUECOPY = [sys.executable, "-c", "from runtime.cli import main; main()"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def artifact(tiny, tmp_path_factory) -> Path:
    """A copy that a test may damage, once the others are done."""
    return Path(shutil.copytree(tiny, tmp_path_factory.mktemp("artifact") / "tiny"))


@pytest.fixture(scope="module")
def url(artifact, tmp_path_factory):
    """The generated application, run by 'serve run' on a cluster of this machine; the queue takes 4 requests."""
    folder = tmp_path_factory.mktemp("serve") / "out"
    subprocess.run([*TRUECOPY, "deploy", "ray-serve", str(artifact), "--out", str(folder)], check=True, timeout=60)
    port = free_port()
    edited = (folder / "serve.yaml").read_text()
    for before, after in {
        "port: 8000": f"port: {port}",
        "max_queued_requests: 64": "max_queued_requests: 4",
        "health_check_period_s: 30": "health_check_period_s: 1",
        "max_replicas: 8": "max_replicas: 1",
    }.items():
        assert before in edited
        edited = edited.replace(before, after)
    (folder / "serve.yaml").write_text(edited)
    with running_nodes(folder, {"num_cpus": 2}) as nodes:
        serve = Path(sys.executable).with_name("serve")
        with (folder / "serve.log").open("w") as log:
            process = subprocess.Popen(
                [str(serve), "run", "serve.yaml"],
                cwd=folder,
                stdout=log,
                stderr=log,
                env={**os.environ, **LOOPBACK, **QUIET, "RAY_ADDRESS": nodes.address},
            )
            try:
                address = f"http://127.0.0.1:{port}"
                deadline = time.monotonic() + 120
                while ask(f"{address}/v2/health/ready")[0] != 200:
                    assert process.poll() is None, (folder / "serve.log").read_text()
                    assert time.monotonic() < deadline, (folder / "serve.log").read_text()
                    time.sleep(0.2)
                yield address
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(timeout=60)


def ask(url: str, body: bytes | None = None) -> tuple[int, bytes, dict[str, str]]:
    headers = {"content-type": "image/jpeg"} if body else {}
    try:
        answer = httpx.request("POST" if body else "GET", url, content=body, headers=headers, timeout=30)
    except httpx.HTTPError:
        return 0, b"", {}
    return answer.status_code, answer.content, dict(answer.headers)


def test_rows_are_the_librarys(url, tiny, photos):
    with runtime.load(tiny) as model:
        for path in photos.values():
            status, body, _ = ask(f"{url}/predict/tiny", path.read_bytes())
            (row,) = json.loads(body)["predictions"]
            assert status == 200
            assert {**row, "input": ""} == {**model.predict(path).to_dict(), "input": ""}


def test_an_image_that_is_none_costs_only_itself(url, photos):
    assert ask(f"{url}/predict/tiny", b"no image")[0] == 400
    assert ask(f"{url}/predict/tiny", photos["cat"].read_bytes())[0] == 200


def test_more_than_the_queue_takes_is_refused_with_429_and_a_time(url, photos):
    body = photos["cat"].read_bytes()
    with ThreadPoolExecutor(64) as clients:
        answers = list(clients.map(lambda _: ask(f"{url}/predict/tiny", body), range(400)))

    statuses = {status for status, _, _ in answers}
    assert statuses == {200, 429}
    refused = next(headers for status, _, headers in answers if status == 429)
    assert refused["retry-after"] == "1"


def test_a_replica_whose_artifact_is_damaged_fails_its_health_check(url, artifact):
    """Last: the weights on disk are another file's now, and no replica can start from them."""
    with (artifact / "weights.bin").open("r+b") as stream:
        stream.seek(100)
        stream.write(b"damaged!")

    deadline = time.monotonic() + 60
    while ask(f"{url}/v2/health/ready")[0] == 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)
