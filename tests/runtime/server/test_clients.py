"""Other people's clients against our server, each in its own process and environment."""

import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CLIENTS = ROOT / "tests" / "clients"
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
NAMES = ("triton_http", "triton_http_aio", "triton_grpc", "kserve_rest", "open_inference_rest", "open_inference_stubs")

needs_clients = pytest.mark.skipif(not PYTHON.exists(), reason="run 'scripts/setup clients' for other people's clients")


@pytest.mark.slow
@needs_clients
@pytest.mark.parametrize("name", NAMES)
def test_a_client_gets_right_answers(server, name):
    command = [PYTHON, CLIENTS / f"{name}.py", server.url, server.grpc, "tiny", ROOT / "tests" / "data" / "cat.jpg"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=90)

    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr[-3000:]


@needs_clients
def test_our_messages_have_the_numbers_of_everyone_elses():
    ours = (files("runtime.server.grpc") / "open_inference.binpb").read_bytes()
    command = [str(PYTHON), str(CLIENTS / "field_numbers.py")]
    done = subprocess.run(command, input=ours, capture_output=True, check=False, timeout=60)

    assert (done.returncode, done.stdout) == (0, b"ok\n"), done.stderr.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("options", "path"),
    [
        ((), "/predict/tiny"),
        (("-H", "Content-Type: image/jpeg"), "/predict/tiny"),
        (("-H", "Expect: 100-continue"), "/predict/tiny"),
        (("-H", "Transfer-Encoding: chunked"), "/predict/tiny"),
        (("-H", "Inference-Header-Content-Length: 0", "-o", "/dev/null", "-w", '"cat"'), "/v2/models/tiny/infer"),
    ],
)
def test_curl_sends_a_photo(server, options, path):
    photo = ROOT / "tests" / "data" / "cat.jpg"
    command = ["curl", "-sSf", *options, "--data-binary", f"@{photo}", server.url + path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 0, done.stderr
    assert '"cat"' in done.stdout
