"""'truecopy deploy kserve': its arguments run our server, its probes are answered, errors are one sentence."""

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import time

import httpx
import pytest
import yaml
from support.commands import TRUECOPY
from support.deploying import deploy
from support.triton_server import CLIENT_PYTHON, ask

import runtime
from runtime.deploy.kserve import to_kubernetes_name


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_arguments_serve_the_artifact_and_probes_are_answered(tiny, photos, tmp_path):
    assert deploy("kserve", tiny, "--out", tmp_path / "out").returncode == 0
    written = yaml.safe_load((tmp_path / "out/runtime.yaml").read_text())
    service = yaml.safe_load((tmp_path / "out/service.yaml").read_text())
    assert service["spec"]["predictor"]["model"]["runtime"] == written["metadata"]["name"]
    (container,) = written["spec"]["containers"]
    assert container["command"] == ["truecopy"]
    name = service["metadata"]["name"]
    here = {
        "{{.Name}}=/mnt/models": f"{name}={tiny}",
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - replaced, not bound
        "8080": free_port(),
        "9000": free_port(),
    }
    assert set(here) <= set(container["args"])
    assert [port["containerPort"] for port in container["ports"]] == [8080, 9000]
    arguments = [here.get(argument, argument) for argument in container["args"]]
    address = f"http://127.0.0.1:{here['8080']}"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*TRUECOPY, *arguments], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not answers(address + container["startupProbe"]["httpGet"]["path"]):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        for probe in ("readinessProbe", "livenessProbe"):
            assert answers(address + container[probe]["httpGet"]["path"])
        assert answers(address + written["spec"]["annotations"]["prometheus.io/path"])
        body = httpx.post(f"{address}/predict/{name}", content=photos["cat"].read_bytes(), timeout=30).content
        with runtime.load(tiny) as model:
            expected = model.predict(photos["cat"]).to_dict()
        assert {**json.loads(body)["predictions"][0], "input": ""} == {**expected, "input": ""}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.mark.skipif(not CLIENT_PYTHON.exists(), reason="run 'scripts/setup clients' for KServe's SDK")
def test_resources_are_kserves_own(tiny, tmp_path):
    assert deploy("kserve", tiny, "--out", tmp_path / "out").returncode == 0
    runtime_file, service_file = tmp_path / "out/runtime.yaml", tmp_path / "out/service.yaml"
    assert ask("kserve_resources", runtime_file, service_file) == "ok\n"
    for path, right, wrong in (
        (runtime_file, "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
        (runtime_file, "periodSeconds: 10", "periodSeconds: ten"),
        (service_file, "modelFormat:", "modelFormats:"),
    ):
        text = path.read_text()
        assert right in text
        path.write_text(text.replace(right, wrong))
        with pytest.raises(AssertionError, match=wrong.split(":")[0]):
            ask("kserve_resources", path)
        path.write_text(text)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def test_wrong_engine_names_the_nearest(tiny, tmp_path):
    done = deploy("kserv", tiny, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "Did you mean 'kserve'?" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_damaged_artifact_writes_nothing(copy, tmp_path):
    path = copy / "model.onnx"
    damaged = bytearray(path.read_bytes())
    damaged[10] ^= 1
    path.write_bytes(damaged)
    done = deploy("kserve", copy, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_folder_in_use_is_kept_and_force_writes_over_our_own(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes").write_text("mine")
    done = deploy("kserve", tiny, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes"]
    assert deploy("kserve", tiny, "--out", tmp_path / "out", "--force").returncode == 0
    assert (tmp_path / "out/notes").read_text() == "mine"


def test_full_disk_leaves_nothing(tiny, tmp_path):
    """A limit on the size of files stands for the full disk: the write itself fails."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = deploy(
        "kserve", tiny, "--out", tmp_path / "out", preexec_fn=limit, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert done.returncode == 1
    assert os.strerror(errno.EFBIG) in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected"), [("ResNet_50.v1", "resnet-50-v1"), ("50", "model-50"), ("ü", "model"), ("a" * 90, "a" * 40)]
)
def test_names_are_kubernetes_own(name, expected):
    assert to_kubernetes_name(name) == expected
