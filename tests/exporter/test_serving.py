"""Every input kind over the wire, exported here and served in a process of its own."""

import io
import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from oip_table.target import Request
from support.serving import ROOT, serving
from torch import nn

import exporter
import runtime
from exporter.options.task import TaskOptions


class Structured(nn.Module):
    """Two inputs by name, one of a free length, and a nested answer."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 6)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, object]:
        steps = self.line(left)
        return {"steps": steps, "both": [(steps.mean(1), right * 2), {"sum": steps.sum((1, 2))}]}


class Affine(nn.Module):
    """One tensor in, class probabilities out."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    torch.manual_seed(0)
    made = {}
    for name, network, inputs, options in (
        (
            "structured",
            Structured(),
            ["left=float32[batch,length,4]", "right=int64[batch]"],
            {"task_options": TaskOptions(task="raw")},
        ),
        ("line", Affine(), ["x=float32[batch,3]"], {}),
    ):
        torch.save(network.eval().state_dict(), folder / f"{name}.pth")
        exported = exporter.export(folder / f"{name}.pth", network, inputs=inputs, out=folder / name, **options)
        made[name] = exported.artifact
    return made


@pytest.fixture(scope="module")
def server(artifacts):
    with serving(*(f"{name}={path}" for name, path in artifacts.items())) as running:
        yield running


def infer(server, model, inputs, **more):
    body = json.dumps({"inputs": inputs, **more}).encode()
    return server.send(Request(method="POST", path=f"/v2/models/{model}/infer", body=body))


def predict(server, model, body):
    return server.post(f"/predict/{model}", json.dumps(body).encode(), Content_Type="application/json")


def tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def test_metadata_has_the_manifests_inputs_and_outputs(server):
    found = server.get("/v2/models/structured").json

    assert [(one["name"], one["datatype"], one["shape"]) for one in found["inputs"]] == [
        ("left", "FP32", [-1, -1, 4]),
        ("right", "INT64", [-1]),
    ]
    assert all(one["shape"][0] == -1 for one in found["outputs"])
    assert found["parameters"] == {"kind": "several", "task": "raw"}


def test_tensors_over_the_wire_are_those_of_run(server, artifacts):
    left = np.random.default_rng(0).random((3, 5, 4), dtype=np.float32)
    right = np.array([1, 2, 3])
    expected = runtime.load(artifacts["structured"]).run({"left": left, "right": right})

    asked = [
        tensor("left", "FP32", [3, 5, 4], left.ravel().tolist()),
        tensor("right", "INT64", [3], right.tolist()),
    ]
    answer = infer(server, "structured", asked)

    assert answer.status == 200, answer.body
    assert {one["name"] for one in answer.json["outputs"]} == expected.keys()
    for one in answer.json["outputs"]:
        np.testing.assert_allclose(
            np.array(one["data"]).reshape(one["shape"]), expected[one["name"]], rtol=1e-5, atol=1e-6
        )


def test_outputs_are_chosen_by_name_and_mixed(server):
    asked = [tensor("left", "FP32", [1, 2, 4], [0.5] * 8), tensor("right", "INT64", [1], [7])]
    names = [one["name"] for one in server.get("/v2/models/structured").json["outputs"]]
    wanted = [{"name": names[1], "parameters": {"binary_data": True}}, {"name": names[0]}]

    answer = infer(server, "structured", asked, outputs=wanted)

    assert [one["name"] for one in answer.json["outputs"]] == [names[1], names[0]]
    first, second = answer.json["outputs"]
    assert first["parameters"]["binary_data_size"] == len(answer.tail)
    assert second["data"]


def test_one_binary_and_one_json_input(server):
    left = np.full((2, 3, 4), 0.25, np.float32)
    described = {"name": "left", "datatype": "FP32", "shape": [2, 3, 4], "parameters": {"binary_data_size": 96}}
    for inputs in (
        [described, tensor("right", "INT64", [2], [1, 2])],
        [tensor("right", "INT64", [2], [1, 2]), described],
    ):
        header = json.dumps({"inputs": inputs}).encode()
        answer = server.send(
            Request(
                method="POST",
                path="/v2/models/structured/infer",
                body=header + left.tobytes(),
                headers={"Inference-Header-Content-Length": str(len(header))},
            )
        )
        assert answer.status == 200, answer.body


def test_people_send_json(server, artifacts):
    model = runtime.load(artifacts["line"])
    one = predict(server, "line", {"input": [0.1, 0.2, 0.3], "top_k": 2}).json["predictions"][0]
    many = predict(server, "line", {"inputs": [[0.1, 0.2, 0.3], ["a", 1, 2], [1, 2, 3]]}).json["predictions"]

    alone = model.predict(np.array([0.1, 0.2, 0.3], np.float32))
    assert one["index"] == alone.index
    assert one["probability"] == pytest.approx(alone.probability, abs=1e-6)
    assert [("error" in row) for row in many] == [False, True, False]

    rows = predict(server, "structured", {"input": {"left": [[1, 2, 3, 4]], "right": 5}}).json["predictions"]
    assert rows[0]["outputs"]["both"][0][1] == 10


def test_many_rows_of_one_request_come_back_in_order(server, artifacts):
    rows = np.random.default_rng(1).random((300, 3), dtype=np.float32)
    expected = runtime.load(artifacts["line"]).run({"x": rows})["probabilities"]

    answer = infer(server, "line", [tensor("x", "FP32", [300, 3], rows.ravel().tolist())])

    (output,) = answer.json["outputs"]
    np.testing.assert_allclose(np.array(output["data"]).reshape(300, 5), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([tensor("left", "FP32", [1, 2, 4], [0.5] * 8)], "right"),
        ([tensor("left", "FP32", [1, 2, 3], [0.5] * 6), tensor("right", "INT64", [1], [1])], "[-1, -1, 4]"),
        ([tensor("left", "FP64", [1, 2, 4], [0.5] * 8), tensor("right", "INT64", [1], [1])], "FP32"),
        ([tensor("left", "FP32", [2, 1, 4], [0.5] * 8), tensor("right", "INT64", [1], [1])], "rows differ"),
        ([tensor("left", "FP32", [1, 1, 4], [1e39, 0, 0, 0]), tensor("right", "INT64", [1], [1])], "not a number"),
    ],
)
def test_wrong_tensors_have_their_reason(server, inputs, reason):
    answer = infer(server, "structured", inputs)

    assert answer.status == 400, answer.body
    assert reason in answer.json["error"]


@pytest.mark.parametrize("value", ["/etc/passwd", ["/etc/passwd"], {"x": "/etc/passwd"}, None, True, [[1, 2], [3]]])
def test_no_path_in_a_request_reaches_the_disk(server, value):
    answer = predict(server, "line", {"input": value})

    assert answer.status == 400
    assert "no such file" not in answer.json["error"]


def test_a_raw_body_is_for_models_that_take_one(server):
    stream = io.BytesIO()
    np.save(stream, np.zeros(3, np.float32))
    assert server.post("/predict/line", stream.getvalue()).status == 415
    raw = server.post("/v2/models/line/infer", struct.pack("<3f", 1, 2, 3), Inference_Header_Content_Length="0")
    assert raw.status == 400


def test_openapi_has_every_kinds_shape(server):
    paths = server.get("/openapi.json").json["paths"]
    body = paths["/predict/line"]["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert body["oneOf"][0]["properties"]["input"]["maxItems"] == 3


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / ".venv-clients").exists() or not Path("/usr/bin/chromedriver").exists(),
    reason="the page was not seen: scripts/setup clients, and Debian's chromium and chromium-driver",
)
@pytest.mark.parametrize("name", ["line", "structured"])
def test_the_page_has_a_form_for_other_kinds(artifacts, tmp_path, name):
    with serving(artifacts[name]) as running:
        command = [ROOT / ".venv-clients/bin/python", ROOT / "tests/clients/browser.py", running.url, "-", tmp_path]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)

    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr[-3000:]
