"""Rows, texts, pairs and token sequences over HTTP and gRPC: what a server answers is what the artifact gives."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from oip_table.target import Request
from support.deploying import deploy
from support.kinds import kinds_in
from support.serving import serving
from support.triton_repository import read_configurations, run_warm_ups
from support.triton_server import CLIENT_PYTHON, is_installed, running_triton

import runtime
from runtime.server.open_inference.tensors import from_bytes

grpc = pytest.importorskip("grpc")

from runtime.server.grpc.messages import message_class  # noqa: E402  # it needs protobuf

ROW = {"age": 30.5, "rooms": 2, "city": "Oslo"}
SOURCES = {
    "rows": [ROW, {**ROW, "age": None, "city": None}, {**ROW, "rooms": "3", "city": "Bern"}],
    "text": ["it is good", "BAD bad not very good", "one two three"],
    "pair": [("good", "very good"), ("one", "two three four five"), ("bad", "it is not")],
    "tokens": [[4], [5, 6, 7, 8, 9], [19, 1]],
}
BAD = {
    "rows": ({**ROW, "rooms": 9}, "column 'rooms': unknown category: expected one of 1, 2, 3, got 9"),
    "text": ("  ", "empty: expected a text"),
    "pair": (["good", 3], "expected a list of two texts"),
    "tokens": ([4, 20], "token outside the vocabulary: expected numbers from 0 to 19, got 20 at position 1"),
}
NAMES = sorted(SOURCES)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    return {name: kind.export().artifact for name, kind in kinds_in(folder).items() if name in SOURCES}


@pytest.fixture(scope="module")
def models(artifacts):
    return {name: runtime.load(path, device="cpu") for name, path in artifacts.items()}


@pytest.fixture(scope="module")
def server(artifacts):
    with serving(*(f"{name}={path}" for name, path in artifacts.items())) as running:
        yield running


def wire(name: str, sources: list) -> dict[str, tuple[str, np.ndarray]]:
    """Return sources as the protocol's tensors: name, datatype and array."""
    if name == "rows":
        table = pd.DataFrame(sources)
        return {
            "age": ("FP64", table["age"].astype(float).to_numpy()[:, np.newaxis]),
            "rooms": ("INT64", table["rooms"].astype(int).to_numpy()),
            "city": ("BYTES", np.array([source["city"] or "" for source in sources], dtype=object)),
        }
    if name == "tokens":
        return {"tokens": ("INT64", np.array(sources))}
    return {"text": ("BYTES", np.array(sources, dtype=object))}


def expected(model: runtime.Model, sources: list) -> dict[str, np.ndarray]:
    """Return the outputs of a run of each source alone, one after the other."""
    runs = [model.run(model.stack([model.prepare(source)])) for source in sources]
    return {key: np.concatenate([run[key] for run in runs]) for key in runs[0]}


def alike(name: str) -> list:
    """Return sources that a rectangular tensor has room for."""
    return [[4, 5], [6, 7], [19, 1]] if name == "tokens" else SOURCES[name]


def rounded(row: object) -> object:
    """Return a row with its numbers as far as a batch of another size has them."""
    if isinstance(row, dict):
        return {key: rounded(value) for key, value in row.items()}
    if isinstance(row, list | tuple):
        return [rounded(value) for value in row]
    return pytest.approx(row, rel=1e-5, abs=1e-6) if isinstance(row, float) else row


def predict(server, name: str, **body: object):
    return server.post(f"/predict/{name}", json.dumps(body).encode(), Content_Type="application/json")


@pytest.mark.parametrize("name", NAMES)
def test_people_get_the_rows_that_predict_gives_and_a_bad_input_costs_only_its_own(server, models, name):
    bad, reason = BAD[name]
    own = [one.to_dict() for one in models[name].predict(SOURCES[name])]

    answer = predict(server, name, inputs=[*SOURCES[name], bad])
    one = predict(server, name, input=SOURCES[name][0])

    assert answer.status == 200, answer.body
    *rows, failed = answer.json["predictions"]
    assert [{**row, "input": ""} for row in rows] == [rounded({**row, "input": ""}) for row in own]
    assert [row["input"] for row in answer.json["predictions"]] == ["#0", "#1", "#2", "#3"]
    assert reason in failed["error"]
    assert {**one.json["predictions"][0], "input": ""} == rounded({**own[0], "input": ""})
    assert predict(server, name, input=bad).status == 400


@pytest.mark.parametrize("name", NAMES)
def test_tensors_over_http_are_those_of_run(server, models, name):
    tensors = wire(name, alike(name))
    inputs = [
        {
            "name": key,
            "datatype": datatype,
            "shape": list(array.shape),
            "data": [None if cell != cell else cell for cell in array.ravel().tolist()],
        }
        for key, (datatype, array) in tensors.items()
    ]
    if name == "rows":  # JSON has no NaN: an empty cell of a number goes as bytes
        inputs[0] = {"name": "age", "datatype": "FP64", "shape": [3, 1], "parameters": {"binary_data_size": 24}}
    header = json.dumps({"inputs": inputs}).encode()
    tail = tensors["age"][1].tobytes() if name == "rows" else b""

    answer = server.send(
        Request(
            method="POST",
            path=f"/v2/models/{name}/infer",
            body=header + tail,
            headers={"Inference-Header-Content-Length": str(len(header))} if tail else {},
        )
    )

    assert answer.status == 200, answer.body
    wanted = expected(models[name], alike(name))
    found = {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer.json["outputs"]}
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        np.testing.assert_allclose(found[key], array, rtol=1e-5, atol=1e-6)


def ask(server, method: str, request):
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_class(f"{method}Response").FromString,
        )
        return call(request, timeout=20)


def request_of(name: str, tensors: dict, *, raw: bool):
    request = message_class("ModelInferRequest")(model_name=name)
    for key, (datatype, array) in tensors.items():
        tensor = request.inputs.add(name=key, datatype=datatype, shape=array.shape)
        values = array.ravel().tolist()
        texts = [value.encode() for value in values] if datatype == "BYTES" else []
        if raw:
            chunks = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
            request.raw_input_contents.append(chunks or array.tobytes())
        else:
            field = {"FP64": "fp64_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}[datatype]
            getattr(tensor.contents, field).extend(texts or values)
    return request


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("name", NAMES)
def test_tensors_over_grpc_are_those_of_run(server, models, name, raw):
    answer = ask(server, "ModelInfer", request_of(name, wire(name, alike(name)), raw=raw))

    wanted = expected(models[name], alike(name))
    assert [one.name for one in answer.outputs] == list(wanted)
    for place, one in enumerate(answer.outputs):
        array = wanted[one.name]
        if raw:
            found = np.frombuffer(answer.raw_output_contents[place], array.dtype)
        else:
            found = np.array(one.contents.int64_contents or one.contents.fp32_contents)
        np.testing.assert_allclose(found.reshape(one.shape), array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("rows", {"rooms": ("INT64", np.array([1, 9, 2]))}, "row 1: column 'rooms': unknown category"),
        (
            "rows",
            {"rooms": ("INT32", np.array([1, 2, 2], np.int32))},
            "'rooms': wrong datatype: expected INT64, got INT32",
        ),
        ("rows", {"rooms": ("INT64", np.array([1, 2]))}, "rows differ"),
        ("rows", {"age": ("FP64", np.array([1.0, np.inf, 2.0]))}, "row 1: column 'age': infinite"),
        ("text", {"text": ("BYTES", np.array(["good", " ", "bad"], dtype=object))}, "row 1: empty"),
        ("text", {"text": ("INT64", np.array([1, 2, 3]))}, "expected BYTES, got INT64"),
        ("pair", {"text": ("BYTES", np.array(["good", "bad"], dtype=object))}, "expected [-1, 2], got [2]"),
        (
            "tokens",
            {"tokens": ("INT64", np.array([[4, 5], [6, 20]]))},
            "row 1: token outside the vocabulary: expected numbers from 0 to 19, got 20 at position 1",
        ),
        ("tokens", {"tokens": ("INT64", np.array([4, 5]))}, "expected [-1, -1], got [2]"),
    ],
)
def test_a_wrong_tensor_has_its_reason_and_place(server, name, change, reason):
    tensors = {**wire(name, alike(name)), **change}

    with pytest.raises(grpc.RpcError) as caught:
        ask(server, "ModelInfer", request_of(name, tensors, raw=True))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason in caught.value.details()


def test_metadata_over_grpc_is_that_over_http(server):
    for name in NAMES:
        over_http = server.get(f"/v2/models/{name}").json
        found = ask(server, "ModelMetadata", message_class("ModelMetadataRequest")(name=name))
        for side in ("inputs", "outputs"):
            assert [(one.name, one.datatype, list(one.shape)) for one in getattr(found, side)] == [
                (one["name"], one["datatype"], one["shape"]) for one in over_http[side]
            ]


def test_rows_are_a_body_of_csv_and_a_bad_one_costs_itself(server, models):
    body = "rooms;age;city\n2;30.5;Oslo\n3;;Bern\n9;1;Oslo\n2;30.5\n"
    charset = {"Content_Type": "text/csv; charset=utf-16"}

    rows = server.post("/predict/rows", body.encode("utf-16"), **charset).json["predictions"]

    good = [ROW, {"rooms": 3, "age": None, "city": "Bern"}]
    assert [row["values"] for row in rows[:2]] == [rounded(dict(models["rows"].predict(row).values)) for row in good]
    assert "'#2': column 'rooms': unknown category" in rows[2]["error"]
    assert "'body', line 5: too few values" in rows[3]["error"]
    for body, status, reason in (
        (b"rooms,age,city\n", 400, "body: no rows"),
        (b"", 400, "body: no rows"),
        (b"a,a\n1,2\n", 400, "column 'a' occurs twice"),
        (b"\xff\xff\n1\n", 400, "not text"),
        (b"rooms,age,city\n" + b"2,1,Oslo\n" * 10_000, 413, "too many inputs"),
    ):
        response = server.post("/predict/rows", body, Content_Type="text/csv")
        assert response.status == status
        assert reason in response.json["error"]
    refused = server.post("/predict/text", b"a,b", Content_Type="text/csv")
    assert refused.status == 415


def test_lines_of_csv_are_counted_before_they_are_rows_however_they_end(server):
    def peak_mb():
        (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
        return int(line) / 1024

    before_mb = peak_mb()
    for end in (b"\n", b"\r", b"\r\n"):
        response = server.post("/predict/rows", b"rooms" + end + (b"2" + end) * 2_000_000, Content_Type="text/csv")
        assert (response.status, "too many inputs" in response.json["error"]) == (413, True)

    assert peak_mb() - before_mb < 100


def test_fields_of_a_form_are_not_taken_for_a_text(server, models):
    form = {"Content_Type": "application/x-www-form-urlencoded"}

    assert server.post("/predict/text", b"text=it+is+good", **form).status == 415
    assert server.post("/predict/text", b"a=1&b=2", **form).status == 415
    for text in (b"it is good", b"x = good", b"good"):
        (row,) = server.post("/predict/text", text, **form).json["predictions"]
        assert row["label"] == models["text"].predict(text.decode()).label


def test_a_text_is_a_body_and_a_row_a_file_of_a_form(server, models):
    text = server.post("/predict/text", b"it is good", Content_Type="text/plain; charset=utf-8")
    border = "------border"
    part = (
        f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="row.json"\r\n\r\n{json.dumps(ROW)}\r\n'
    )
    form = server.post(
        "/predict/rows", f"{part}--{border}--\r\n".encode(), Content_Type=f"multipart/form-data; boundary={border}"
    )

    own = models["text"].predict("it is good").to_dict()
    assert {**text.json["predictions"][0], "input": ""} == rounded({**own, "input": ""})
    assert form.json["predictions"][0]["values"] == rounded(dict(models["rows"].predict(ROW).values))
    assert form.json["predictions"][0]["input"] == "row.json"

    values = part.replace(json.dumps(ROW), "[" + "[]," * 1_000_000 + "[]]")
    many = server.post(
        "/predict/rows", f"{values}--{border}--\r\n".encode(), Content_Type=f"multipart/form-data; boundary={border}"
    )
    assert many.status == 413  # from the text alone: its lists would take 88 MB


@pytest.fixture(scope="module")
def repositories(artifacts, tmp_path_factory) -> Path:
    """What 'truecopy deploy triton' writes, of all artifacts together."""
    folder = tmp_path_factory.mktemp("triton")
    for path in artifacts.values():
        done = deploy("triton", path, "--out", folder, "--force")
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.skipif(not CLIENT_PYTHON.exists(), reason="run 'scripts/setup clients' for tritonclient")
def test_graphs_of_every_kind_run_as_tritons_configurations_say(repositories, models):
    configurations = read_configurations(repositories)
    for name, model in models.items():
        graph = configurations[f"{name}_model"]  # the host prepares nothing that the graph could
        wanted = {output.name: output.dtype for output in model.manifest.outputs}
        for answer in run_warm_ups(repositories / "onnxruntime" / graph["name"], graph):
            assert {key: str(array.dtype) for key, array in answer.items()} == wanted


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(), reason="run 'scripts/setup triton' for a real Triton")
def test_a_real_triton_has_the_rows_of_every_kind(repositories, models, tmp_path):
    with running_triton(repositories / "python", log=tmp_path / "log") as triton:
        for name in NAMES:
            columns = {
                key: (datatype, array if array.ndim > 1 else array[:, np.newaxis])
                for key, (datatype, array) in wire(name, alike(name)).items()
            }
            request = request_of(name, columns, raw=True)
            (data,) = ask(triton, "ModelInfer", request).raw_output_contents
            rows = [json.loads(row) for row in from_bytes(memoryview(data), "BYTES", [3], "row")]
            own = [one.to_dict() for one in models[name].predict(alike(name))]
            assert [{**row, "input": ""} for row in rows] == [rounded({**row, "input": ""}) for row in own]
