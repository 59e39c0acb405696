"""'truecopy deploy ray-serve': what it writes is run by Ray Serve itself, and answers as the library does."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.deploying import deploy

import runtime
from runtime.deploy.artifact_copies import artifact_digest
from runtime.deploy.ray.application import Application, build_application, check_replica, open_model


@pytest.fixture
def url(ray_serving):
    return ray_serving.url


def ask(url: str, body: bytes | None = None) -> tuple[int, bytes, dict[str, str]]:
    headers = {"content-type": "image/jpeg"} if body else {}
    try:
        answer = httpx.request("POST" if body else "GET", url, content=body, headers=headers, timeout=30)
    except httpx.HTTPError:
        return 0, b"", {}
    return answer.status_code, answer.content, dict(answer.headers)


@pytest.mark.slow
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
    with ThreadPoolExecutor(32) as clients:
        answers = list(clients.map(lambda _: ask(f"{url}/predict/tiny", body), range(100)))

    statuses = {status for status, _, _ in answers}
    assert statuses == {200, 429}
    refused = next(headers for status, _, headers in answers if status == 429)
    assert refused["retry-after"] == "1"


def test_a_replica_whose_artifact_was_damaged_is_not_healthy(copy):
    application = Application(artifact=str(copy), sha256=artifact_digest(copy))
    loaded = open_model(application)
    check_replica(loaded)
    with (copy / "weights.bin").open("r+b") as stream:
        stream.seek(100)
        stream.write(b"damaged!")

    with pytest.raises(runtime.ArtifactError, match="changed while in use"):
        check_replica(loaded)


def test_another_version_of_the_artifact_is_refused(copy):
    with pytest.raises(runtime.ArtifactError, match=f"another version .* has SHA-256 {'0' * 64}, got "):
        open_model(Application(artifact=str(copy), sha256="0" * 64))


def test_wrong_arguments_of_the_configuration_are_named():
    with pytest.raises(runtime.InputError, match=r"serve.yaml, args: .*`qeue`"):
        build_application({"artifact": "tiny", "sha256": "0" * 64, "qeue": 3})


def test_an_unknown_engine_is_refused_in_one_sentence(tiny, tmp_path):
    done = deploy("trition", tiny, "--out", tmp_path / "out")

    assert done.returncode == 1
    assert done.stderr.startswith("error: engine 'trition': unknown: expected one of ")
    assert done.stderr.count("\n") == 1
