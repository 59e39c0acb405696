"""The protocol as a table: questions that a server of the Open Inference Protocol gets, and what it has to answer.

Where Triton answers a bad request with a 500, the table asks for a 4xx with the reason.
"""

import base64
import gzip
import json
import struct
import zlib
from typing import Any

from oip_table.target import HEADER_LENGTH, Answer, Case, Check, Request, Target


def get(path: str, **expected: Any) -> dict[str, Any]:
    """Return the parts of a case that reads ``path``, in which {model} stands for the model."""
    return {"ask": lambda target: Request(method="GET", path=path.format(model=target.model)), **expected}


def has(**fields: Any) -> Check:
    """Return a check that the JSON answer has these fields."""

    def check(_target: Target, answer: Answer) -> None:
        assert {name: answer.json.get(name) for name in fields} == fields

    return check


def scores(rows: int = 1) -> Check:
    """Return a check that the answer holds rows of probabilities as JSON."""

    def check(target: Target, answer: Answer) -> None:
        (output,) = answer.json["outputs"]
        assert (output["name"], output["datatype"]) == (target.output, "FP32")
        assert output["shape"] == [rows, target.classes]
        assert len(output["data"]) == rows * target.classes
        assert abs(sum(output["data"]) - rows) < 1e-3
        assert answer.json["model_name"] == target.model

    return check


def binary_scores(rows: int = 1) -> Check:
    """Return a check that the answer holds rows of probabilities as binary data."""

    def check(target: Target, answer: Answer) -> None:
        (output,) = answer.json["outputs"]
        size = output["parameters"]["binary_data_size"]
        assert answer.headers["content-type"] == "application/octet-stream"
        assert size == len(answer.tail) == rows * target.classes * 4
        values = struct.unpack(f"<{rows * target.classes}f", answer.tail)
        assert abs(sum(values) - rows) < 1e-3
        assert "data" not in output

    return check


def classes(count: int) -> Check:
    """Return a check that the answer holds 'score:index' texts in falling order."""

    def check(target: Target, answer: Answer) -> None:
        (output,) = answer.json["outputs"]
        assert (output["datatype"], output["shape"]) == ("BYTES", [1, count])
        values = [float(text.split(":")[0]) for text in output["data"]]
        assert values == sorted(values, reverse=True)
        assert all(0 <= int(text.split(":")[1]) < target.classes for text in output["data"])

    return check


def header(name: str, value: str) -> Check:
    """Return a check that an answer's header holds ``value``."""

    def check(_target: Target, answer: Answer) -> None:
        assert value in answer.headers.get(name, "")

    return check


def gunzipped(target: Target, answer: Answer) -> None:
    """Check scores that were sent compressed."""
    assert answer.headers["content-encoding"] == "gzip"
    plain = Answer(status=answer.status, headers=answer.headers, body=gzip.decompress(answer.body))
    assert len(plain.json["outputs"][0]["shape"]) == 2


def ask_json(**changes: Any) -> Any:
    """Return a question with the image as base64; ``changes`` go into the request."""
    return lambda target: target.infer({"inputs": [target.text_input()], **changes})


def ask_input(**changes: Any) -> Any:
    """Return a question whose one JSON input is changed."""
    return lambda target: target.infer({"inputs": [target.text_input(**changes)]})


def ask_binary(count: int = 1, request: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Return a question with the image as a binary tensor."""

    def ask(target: Target) -> Request:
        tensor, tail = target.binary_input(count, **changes)
        return target.infer({"inputs": [tensor], **(request or {})}, tail)

    return ask


def ask_pixels(shape: list[int], *, nested: bool = False, binary: bool = False, **changes: Any) -> Any:
    """Return a question with gray uint8 images of ``shape``."""

    def ask(target: Target) -> Request:
        count = 1
        for length in shape:
            count *= length
        tensor = {"name": target.input, "datatype": "UINT8", "shape": shape, **changes}
        if binary:
            tensor["parameters"] = {"binary_data_size": count}
            return target.infer({"inputs": [tensor]}, bytes([127]) * count)
        data: Any = [127] * count
        if nested:
            for length in reversed(shape[1:]):
                data = [data[start : start + length] for start in range(0, len(data), length)]
        return target.infer({"inputs": [{"data": data, **tensor}]})

    return ask


def ask_outputs(*outputs: Any, **more: Any) -> Any:
    """Return a question that names its outputs; True stands for the model's own output name."""

    def ask(target: Target) -> Request:
        named = [{**output, "name": target.output if output["name"] is True else output["name"]} for output in outputs]
        return target.infer({"inputs": [target.text_input()], "outputs": named, **more})

    return ask


def ask_raw(body: Any = None, *, length: str = "0", **headers: str) -> Any:
    """Return a question whose whole body is the image."""

    def ask(target: Target) -> Request:
        return Request(
            method="POST",
            path=f"/v2/models/{target.model}/infer",
            body=target.image if body is None else body,
            headers={HEADER_LENGTH: length, "Content-Type": "application/octet-stream", **headers},
        )

    return ask


def ask_body(body: bytes, **headers: str) -> Any:
    """Return a question with a body as it stands."""
    return lambda target: target.infer(body, **headers)


def ask_packed(pack: Any, encoding: str, tail_too: bool = False) -> Any:
    """Return a question whose body is compressed."""

    def ask(target: Target) -> Request:
        if tail_too:
            tensor, tail = target.binary_input()
            plain = target.infer({"inputs": [tensor]}, tail)
        else:
            plain = target.infer({"inputs": [target.text_input()]})
        return Request(
            method=plain.method,
            path=plain.path,
            body=pack(plain.body),
            headers={**plain.headers, "Content-Encoding": encoding},
        )

    return ask


def post(path: str, body: bytes = b"") -> Any:
    """Return a POST of ``body``."""
    return lambda target: Request(method="POST", path=path.format(model=target.model), body=body)


def elsewhere(path: str) -> Any:
    """Return a good inference request to another path."""

    def ask(target: Target) -> Request:
        good = target.infer({"inputs": [target.text_input()]})
        return Request(method="POST", path=path.format(model=target.model), body=good.body, headers=good.headers)

    return ask


def ask_mixed(first_binary: bool, *, wrong_second: str = "") -> Any:
    """Return a question with two inputs, one binary and one JSON, of which the model has only the first."""

    def ask(target: Target) -> Request:
        binary, tail = target.binary_input()
        text = target.text_input()
        text["name"] = wrong_second or "other"
        return target.infer({"inputs": [binary, text] if first_binary else [text, binary]}, tail)

    return ask


MODEL = "/v2/models/{model}"


def metadata(target: Target, answer: Answer) -> None:
    """Check that metadata names every tensor with its datatype and shape."""
    assert answer.json["name"] == target.model
    for tensor in answer.json["inputs"] + answer.json["outputs"]:
        assert {"name", "datatype", "shape"} <= tensor.keys()
        assert -1 in tensor["shape"]


def statistics(target: Target, answer: Answer) -> None:
    """Check that statistics have the protocol's durations."""
    (entry,) = (row for row in answer.json["model_stats"] if row["name"] == target.model)
    wanted = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output"}
    assert wanted <= entry["inference_stats"].keys()
    assert all(entry["inference_stats"][name].keys() == {"count", "ns"} for name in wanted)


CASES: tuple[Case, ...] = (
    # Health and metadata.
    Case(name="live", **get("/v2/health/live"), check=has(live=True)),
    Case(name="ready", **get("/v2/health/ready"), check=has(ready=True)),
    Case(name="server metadata", **get("/v2")),
    Case(name="server metadata with a slash", **get("/v2/", status=(200, 404))),
    Case(name="model ready", **get(MODEL + "/ready")),
    Case(name="model ready in version 1", **get(MODEL + "/versions/1/ready")),
    Case(name="model metadata", **get(MODEL), check=metadata),
    Case(name="model metadata in version 1", **get(MODEL + "/versions/1"), check=metadata),
    Case(name="model config", **get(MODEL + "/config")),
    Case(name="model statistics", **get(MODEL + "/stats"), check=statistics),
    Case(name="model statistics in version 1", **get(MODEL + "/versions/1/stats"), check=statistics),
    Case(name="statistics of all models", **get("/v2/models/stats"), check=statistics),
    Case(name="repository index", ask=post("/v2/repository/index", b"{}")),
    Case(name="repository index without a body", ask=post("/v2/repository/index")),
    Case(name="unknown model", **get("/v2/models/nope", status=404, error=True)),
    Case(name="unknown model ready", **get("/v2/models/nope/ready", status=(400, 404), error=True)),
    Case(name="unknown model statistics", **get("/v2/models/nope/stats", status=404, error=True)),
    Case(name="unknown version", **get(MODEL + "/versions/9", status=404, error=True)),
    Case(name="unknown version ready", **get(MODEL + "/versions/9/ready", status=(400, 404), error=True)),
    Case(name="unknown path", **get("/v2/nope", status=404, error=True)),
    Case(name="unknown path below a model", **get(MODEL + "/nope", status=404, error=True)),
    Case(name="wrong method on infer", **get(MODEL + "/infer", status=405, error=True)),
    Case(name="wrong method on metadata", ask=post(MODEL), status=405, error=True),
    Case(name="load is refused", ask=post("/v2/repository/models/{model}/load"), status=(403, 404), error=True),
    Case(name="unload is refused", ask=post("/v2/repository/models/{model}/unload"), status=(403, 404), error=True),
    # Good requests.
    Case(name="base64 in JSON", ask=ask_json(), check=scores()),
    Case(name="the id comes back", ask=ask_json(id="req-7"), check=has(id="req-7")),
    Case(name="an id beyond ASCII comes back", ask=ask_json(id="größe ✓"), check=has(id="größe ✓")),
    Case(name="two images", ask=lambda t: t.infer({"inputs": [t.text_input(2)]}), check=scores(2)),
    Case(
        name="three images of shape [3, 1]",
        ask=lambda t: t.infer({"inputs": [t.text_input(3, shape=[3, 1])]}),
        check=scores(3),
    ),
    Case(
        name="three images of shape [3, 1], nested",
        ask=lambda t: t.infer({"inputs": [t.text_input(3, shape=[3, 1], data=[[x] for x in t.text_input(3)["data"]])]}),
        check=scores(3),
    ),
    Case(name="version 1", ask=elsewhere(MODEL + "/versions/1/infer"), check=scores()),
    Case(name="the version comes back", ask=ask_json(), check=has(model_version="1")),
    Case(name="unknown fields are let be", ask=ask_json(extra={"a": [1]}), check=scores()),
    Case(name="null id, outputs and parameters", ask=ask_json(id=None, outputs=None, parameters=None), check=scores()),
    Case(name="no outputs wanted by name means all", ask=ask_json(outputs=[]), check=scores()),
    Case(name="unknown parameters are let be", ask=ask_json(parameters={"priority": 3}), check=scores()),
    Case(name="one output by name", ask=ask_outputs({"name": True}), check=scores()),
    Case(
        name="two best classes", ask=ask_outputs({"name": True, "parameters": {"classification": 2}}), check=classes(2)
    ),
    Case(
        name="a charset in the content type",
        ask=ask_body(b"{}", Content_Type="application/json; charset=utf-8"),
        status=400,
        error=True,
    ),
    Case(name="binary in, JSON out", ask=ask_binary(), check=scores()),
    Case(name="binary in, two images", ask=ask_binary(2), check=scores(2)),
    Case(
        name="binary in, binary out",
        ask=lambda t: ask_binary(request={"outputs": [{"name": t.output, "parameters": {"binary_data": True}}]})(t),
        check=binary_scores(),
    ),
    Case(
        name="JSON in, binary out",
        ask=ask_outputs({"name": True, "parameters": {"binary_data": True}}),
        check=binary_scores(),
    ),
    Case(name="all outputs binary", ask=ask_json(parameters={"binary_data_output": True}), check=binary_scores()),
    Case(
        name="binary by default, JSON by name",
        ask=ask_outputs({"name": True, "parameters": {"binary_data": False}}, parameters={"binary_data_output": True}),
        check=scores(),
    ),
    Case(
        name="binary classes", ask=ask_outputs({"name": True, "parameters": {"classification": 1, "binary_data": True}})
    ),
    Case(name="raw body", ask=ask_raw(), check=binary_scores()),
    Case(name="raw body without a content type", ask=ask_raw(**{"Content-Type": ""}), check=binary_scores()),
    Case(name="uint8 pixels, flat", ask=ask_pixels([1, 40, 50, 3]), check=scores()),
    Case(name="uint8 pixels, nested", ask=ask_pixels([1, 20, 30, 3], nested=True), check=scores()),
    Case(name="uint8 pixels, nested, two images", ask=ask_pixels([2, 8, 9, 3], nested=True), check=scores(2)),
    Case(name="uint8 pixels, binary", ask=ask_pixels([2, 33, 47, 3], binary=True), check=scores(2)),
    Case(name="one pixel", ask=ask_pixels([1, 1, 1, 3]), check=scores()),
    Case(name="gzip in", ask=ask_packed(gzip.compress, "gzip"), check=scores()),
    Case(name="gzip in, binary", ask=ask_packed(gzip.compress, "gzip", tail_too=True), check=scores()),
    Case(name="deflate in", ask=ask_packed(zlib.compress, "deflate"), check=scores()),
    Case(name="identity in", ask=ask_packed(bytes, "identity"), check=scores()),
    Case(
        name="gzip in two members",
        ask=ask_packed(lambda b: gzip.compress(b[:9]) + gzip.compress(b[9:]), "gzip"),
        check=scores(),
    ),
    Case(
        name="a request id is echoed",
        ask=lambda t: t.infer({"inputs": [t.text_input()]}, X_Request_Id="abc-1"),
        check=header("x-request-id", "abc-1"),
    ),
    Case(
        name="a trace goes on",
        ask=lambda t: t.infer(
            {"inputs": [t.text_input()]}, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        ),
        check=header("traceparent", "0af7651916cd43dd8448eb211c80319c"),
    ),
    Case(
        name="a long answer compressed",
        ask=lambda t: t.infer({"inputs": [t.text_input(40)]}, Accept_Encoding="gzip"),
        check=gunzipped,
    ),
    Case(
        name="an encoding that is refused",
        ask=lambda t: t.infer({"inputs": [t.text_input(2)]}, Accept_Encoding="gzip;q=0"),
        check=scores(2),
    ),
    # Bad requests: each with its reason, none a fault of the server.
    Case(name="unknown model on infer", ask=elsewhere("/v2/models/nope/infer"), status=404, error=True),
    Case(name="unknown version on infer", ask=elsewhere(MODEL + "/versions/9/infer"), status=404, error=True),
    Case(name="empty body", ask=ask_body(b""), status=400, error=True),
    Case(name="broken JSON", ask=ask_body(b'{"inputs": ['), status=400, error=True),
    Case(name="JSON that is an array", ask=ask_body(b"[]"), status=400, error=True),
    Case(name="JSON that is null", ask=ask_body(b"null"), status=400, error=True),
    Case(name="JSON in Latin-1", ask=ask_body('{"id": "größe"}'.encode("latin-1")), status=400, error=True),
    Case(name="deep JSON", ask=ask_body(b"[" * 100_000), status=400, error=True),
    Case(
        name="deep JSON in data",
        ask=lambda t: t.infer(
            json.dumps({"inputs": [t.text_input(data=["@"])]}).replace('["@"]', "[" * 90_000 + "]" * 90_000).encode()
        ),
        status=400,
        error=True,
    ),
    Case(name="no inputs field", ask=ask_body(b"{}"), status=400, error=True),
    Case(name="no inputs", ask=ask_body(b'{"inputs": []}'), status=400, error=True),
    Case(name="inputs as an object", ask=ask_body(b'{"inputs": {}}'), status=400, error=True),
    Case(name="wrong input name", ask=ask_input(name="x"), status=400, error=True),
    Case(
        name="no input name",
        ask=lambda t: t.infer({"inputs": [{"datatype": "BYTES", "shape": [1], "data": ["aa"]}]}),
        status=400,
        error=True,
    ),
    Case(
        name="the same input twice",
        ask=lambda t: t.infer({"inputs": [t.text_input(), t.text_input()]}),
        status=400,
        error=True,
    ),
    Case(name="an input too many, binary first", ask=ask_mixed(True), status=400, error=True),
    Case(name="an input too many, JSON first", ask=ask_mixed(False), status=400, error=True),
    Case(name="unknown datatype", ask=ask_input(datatype="FP8"), status=400, error=True),
    Case(name="datatype in lower case", ask=ask_input(datatype="bytes"), status=400, error=True),
    Case(name="wrong datatype", ask=ask_input(datatype="FP32", data=[1.0]), status=400, error=True),
    Case(name="INT8 pixels", ask=ask_pixels([1, 4, 4, 3], datatype="INT8"), status=400, error=True),
    Case(name="BF16 in JSON", ask=ask_input(datatype="BF16", data=[1]), status=400, error=True),
    Case(
        name="no shape",
        ask=lambda t: t.infer({"inputs": [{"name": t.input, "datatype": "BYTES", "data": ["aa"]}]}),
        status=400,
        error=True,
    ),
    Case(name="negative shape", ask=ask_input(shape=[-1]), status=400, error=True),
    Case(name="shape of floats", ask=ask_input(shape=[1.5]), status=400, error=True),
    Case(name="shape of text", ask=ask_input(shape="1"), status=400, error=True),
    Case(name="shape above the data", ask=ask_input(shape=[2]), status=400, error=True),
    Case(name="shape below the data", ask=ask_input(data=["aa", "aa"]), status=400, error=True),
    Case(name="shape beyond memory", ask=ask_input(shape=[2**62, 2**62]), status=400, error=True),
    Case(name="shape beyond 64 bits", ask=ask_input(shape=[2**70]), status=400, error=True),
    Case(name="shape of zero", ask=ask_input(shape=[0], data=[]), status=400, error=True),
    Case(name="a scalar's shape", ask=ask_input(shape=[]), status=400, error=True),
    Case(name="a thousand dimensions", ask=ask_input(shape=[1] * 1000), status=400, error=True),
    Case(name="wrong rank for bytes", ask=ask_input(shape=[1, 1, 1]), status=400, error=True),
    Case(name="wrong rank for pixels", ask=ask_pixels([4, 4, 3]), status=400, error=True),
    Case(name="four channels", ask=ask_pixels([1, 4, 4, 4]), status=400, error=True),
    Case(name="no rows of pixels", ask=ask_pixels([1, 0, 4, 3]), status=400, error=True),
    Case(
        name="ragged pixels",
        ask=ask_pixels([1, 2, 2, 3], data=[[[[1, 2, 3], [1, 2]], [[1, 2, 3], [1, 2, 3]]]]),
        status=400,
        error=True,
    ),
    Case(name="pixels above 255", ask=ask_pixels([1, 1, 1, 3], data=[256, 0, 0]), status=400, error=True),
    Case(name="negative pixels", ask=ask_pixels([1, 1, 1, 3], data=[-1, 0, 0]), status=400, error=True),
    Case(name="pixels as floats", ask=ask_pixels([1, 1, 1, 3], data=[1.5, 0.0, 0.0]), status=400, error=True),
    Case(name="pixels as text", ask=ask_pixels([1, 1, 1, 3], data=["1", "2", "3"]), status=400, error=True),
    Case(name="pixels as booleans", ask=ask_pixels([1, 1, 1, 3], data=[True, False, True]), status=400, error=True),
    Case(name="pixels as null", ask=ask_pixels([1, 1, 1, 3], data=[None, None, None]), status=400, error=True),
    Case(name="data as an object", ask=ask_input(data={"a": 1}), status=400, error=True),
    Case(
        name="no data",
        ask=lambda t: t.infer({"inputs": [{"name": t.input, "datatype": "BYTES", "shape": [1]}]}),
        status=400,
        error=True,
    ),
    Case(
        name="shared memory",
        ask=lambda t: t.infer(
            {
                "inputs": [
                    {
                        "name": t.input,
                        "datatype": "BYTES",
                        "shape": [1],
                        "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4},
                    }
                ]
            }
        ),
        status=400,
        error=True,
    ),
    Case(name="numbers as bytes", ask=ask_input(data=[5]), status=400, error=True),
    Case(name="not base64", ask=ask_input(data=["*not base64*"]), status=400, error=True),
    Case(
        name="garbage image", ask=ask_input(data=[base64.b64encode(b"not an image").decode()]), status=400, error=True
    ),
    Case(name="empty image", ask=ask_input(data=[""]), status=400, error=True),
    Case(
        name="truncated image",
        ask=lambda t: t.infer(
            {"inputs": [t.text_input(data=[base64.b64encode(t.image[: len(t.image) // 2]).decode()])]}
        ),
        status=400,
        error=True,
    ),
    Case(name="unknown output", ask=ask_outputs({"name": "nope"}), status=400, error=True),
    Case(name="an output without a name", ask=ask_json(outputs=[{}]), status=400, error=True),
    Case(
        name="classification of text",
        ask=ask_outputs({"name": True, "parameters": {"classification": "two"}}),
        status=400,
        error=True,
    ),
    Case(
        name="negative classification",
        ask=ask_outputs({"name": True, "parameters": {"classification": -1}}),
        status=400,
        error=True,
    ),
    Case(
        name="binary_data of text",
        ask=ask_outputs({"name": True, "parameters": {"binary_data": "yes"}}),
        status=400,
        error=True,
    ),
    Case(name="header length too large", ask=ask_raw(length="99999999"), status=400, error=True),
    Case(name="header length not a number", ask=ask_raw(length="many"), status=400, error=True),
    Case(name="header length negative", ask=ask_raw(length="-1"), status=400, error=True),
    Case(
        name="header length inside the JSON",
        ask=lambda t: Request(
            method="POST",
            path=f"/v2/models/{t.model}/infer",
            body=t.infer({"inputs": [t.text_input()]}).body,
            headers={HEADER_LENGTH: "20"},
        ),
        status=400,
        error=True,
    ),
    Case(name="raw body that is empty", ask=ask_raw(b""), status=400, error=True),
    Case(name="raw body of garbage", ask=ask_raw(b"garbage"), status=400, error=True),
    Case(
        name="raw body as text",
        ask=ask_raw(b"plain text", **{"Content-Type": "text/plain"}),
        status=(400, 415),
        error=True,
    ),
    Case(name="binary size too large", ask=ask_binary(parameters={"binary_data_size": 10**9}), status=400, error=True),
    Case(name="binary size too small", ask=ask_binary(parameters={"binary_data_size": 10}), status=400, error=True),
    Case(name="binary size negative", ask=ask_binary(parameters={"binary_data_size": -4}), status=400, error=True),
    Case(name="binary size as text", ask=ask_binary(parameters={"binary_data_size": "all"}), status=400, error=True),
    Case(name="binary size missing", ask=ask_binary(parameters={}), status=400, error=True),
    Case(name="binary and data both", ask=ask_binary(data=["aa"]), status=400, error=True),
    Case(
        name="binary element longer than its tensor",
        ask=lambda t: t.infer(
            {"inputs": [{**t.binary_input()[0], "parameters": {"binary_data_size": 8}}]},
            struct.pack("<I", 2**31) + b"abcd",
        ),
        status=400,
        error=True,
    ),
    Case(name="more elements than the shape", ask=ask_binary(2, shape=[1]), status=400, error=True),
    Case(name="fewer elements than the shape", ask=ask_binary(1, shape=[2]), status=400, error=True),
    Case(
        name="uint8 bytes of the wrong number",
        ask=lambda t: t.infer(
            {
                "inputs": [
                    {
                        "name": t.input,
                        "datatype": "UINT8",
                        "shape": [1, 4, 4, 3],
                        "parameters": {"binary_data_size": 47},
                    }
                ]
            },
            bytes(47),
        ),
        status=400,
        error=True,
    ),
    Case(
        name="bytes behind the last tensor",
        ask=lambda t: t.infer({"inputs": [t.text_input()]}, b"left over"),
        status=400,
        error=True,
    ),
    Case(
        name="gzip that is none",
        ask=lambda t: t.infer({"inputs": [t.text_input()]}, Content_Encoding="gzip"),
        status=400,
        error=True,
    ),
    Case(name="gzip cut short", ask=ask_packed(lambda body: gzip.compress(body)[:-20], "gzip"), status=400, error=True),
    Case(name="an encoding that nobody knows", ask=ask_packed(bytes, "br"), status=415, error=True),
    Case(
        name="a gzip bomb",
        ask=lambda t: t.infer(gzip.compress(bytes(80 * 2**20)), Content_Encoding="gzip"),
        status=413,
        error=True,
    ),
    Case(name="a body above the limit", ask=lambda t: t.infer(b" " * (33 * 2**20)), status=413, error=True),
)
