"""POST /predict/{model}: one input or several, options, and malformed requests."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import runtime

BOUNDARY = "a-boundary"


def multipart(*parts):
    """Return a multipart body of (name, filename or None, bytes)."""
    lines = []
    for name, filename, data in parts:
        suffix = f'; filename="{filename}"' if filename else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{suffix}\r\n\r\n'
        lines += [head.encode(), data, b"\r\n"]
    return b"".join([*lines, f"--{BOUNDARY}--\r\n".encode()])


FORM = f"multipart/form-data; boundary={BOUNDARY}"


def rows(response):
    assert response.status == 200, response.body
    return response.json["predictions"]


@pytest.mark.parametrize(
    "kind", ["image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded", "IMAGE/PNG; q=1", ""]
)
def test_one_body_is_one_image(server, cat, kind):
    (row,) = rows(server.post("/predict/tiny", cat, Content_Type=kind))

    assert list(row) == ["input", "label", "index", "probability", "top"]
    assert row["label"] == "cat"
    assert len(row["top"]) == 4


def test_the_row_is_the_one_that_predict_prints(server, cat, tiny):
    import runtime

    own = runtime.load(tiny, device="cpu").predict(cat, top_k=2).to_dict()
    (row,) = rows(server.post("/predict/tiny?top_k=2", cat))

    assert {**row, "input": own["input"]} == json.loads(json.dumps(own))


def test_json_takes_one_or_many(server, cat, rocket):
    first, second = base64.b64encode(cat).decode(), base64.b64encode(rocket).decode()

    def post(body):
        return rows(server.post("/predict/tiny", json.dumps(body).encode(), Content_Type="application/json"))

    assert [row["label"] for row in post({"input": first})] == ["cat"]
    assert [(row["input"], row["label"]) for row in post({"inputs": [first, second]})] == [
        ("#0", "cat"),
        ("#1", "rocket"),
    ]
    assert [row["label"] for row in post({"input": f"data:image/jpeg;base64,{first}"})] == ["cat"]
    assert len(post({"input": first, "top_k": 1})[0]["top"]) == 1
    assert post({"input": first, "threshold": 1.0})[0]["label"] == "unknown"


@pytest.mark.parametrize("kind", ["", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"])
def test_json_needs_no_content_type(server, cat, kind):
    """curl -d calls every body a form, fetch calls a string plain text."""
    body = b'\n {"input": "' + base64.b64encode(cat) + b'"}'

    assert rows(server.post("/predict/tiny", body, Content_Type=kind))[0]["label"] == "cat"
    assert "JSON" in server.post("/predict/tiny", b"{", Content_Type=kind).json["error"]


@pytest.mark.parametrize(
    "encode",
    [
        lambda data: base64.encodebytes(data).decode(),
        lambda data: base64.encodebytes(data).decode().replace("\n", "\r\n"),
        lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
        lambda data: f"data:image/jpeg;base64,{base64.urlsafe_b64encode(data).decode()}",
    ],
)
def test_base64_may_be_wrapped_or_for_urls(server, cat, encode):
    body = json.dumps({"input": encode(cat)}).encode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [encode(cat)]}

    assert rows(server.post("/predict/tiny", body, Content_Type="application/json"))[0]["label"] == "cat"
    assert server.post("/v2/models/tiny/infer", json.dumps({"inputs": [tensor]}).encode()).status == 200


@pytest.mark.parametrize("path", ["/v1/models/tiny:predict", "/invocations", "/predict/tiny"])
def test_instances_of_other_servers_are_inputs(server, cat, rocket, path):
    cat_text, rocket_text = base64.b64encode(cat).decode(), base64.b64encode(rocket).decode()
    instances = [cat_text, {"b64": rocket_text}, {"image": {"b64": cat_text}}, {"b64": "?"}]
    body = {"signature_name": "serving_default", "instances": instances}

    predictions = rows(server.post(f"{path}?top_k=1", json.dumps(body).encode(), Content_Type="application/json"))

    assert [row.get("label") for row in predictions] == ["cat", "rocket", "cat", None]
    assert "not base64" in predictions[3]["error"]
    assert rows(server.post(path, cat, Content_Type="image/jpeg"))[0]["label"] == "cat"


def test_other_servers_paths_say_whether_it_is_ready(server):
    assert server.get("/ping").status == 200
    assert server.get("/v1/models").json == {"models": ["tiny"]}
    assert server.get("/v1/models/tiny").json == {"name": "tiny", "ready": True}
    assert server.post("/v1/models/other:predict", b"x").status == 404


def test_pixels_may_be_nested_lists(server, tiny, cat):
    pixels = np.asarray(Image.open(io.BytesIO(cat)).convert("RGB"))[:40, :50]
    body = json.dumps({"instances": [pixels.tolist()]}).encode()
    with runtime.load(tiny) as model:
        expected = model.predict(pixels).to_dict()

    (row,) = rows(server.post("/v1/models/tiny:predict", body, Content_Type="application/json"))

    assert {**row, "input": ""} == {**expected, "input": ""}


def test_arrays_of_pixels_are_one_image_or_several(server, tiny, cat):
    pixels = np.asarray(Image.open(io.BytesIO(cat)).convert("RGB"))[:40, :50]
    with runtime.load(tiny) as model:
        expected = [score["probability"] for score in model.predict(pixels).to_dict()["top"]]
    for array, count in ((pixels, 1), (np.stack([pixels, pixels]), 2), (np.asfortranarray(pixels), 1)):
        stream = io.BytesIO()
        np.save(stream, array)
        found = rows(server.post("/invocations", stream.getvalue(), Content_Type="application/x-npy"))
        assert [[score["probability"] for score in row["top"]] for row in found] == [expected] * count
    for array, status, reason in (
        (np.zeros((2, 4, 4, 3), np.float32), 200, "expected uint8"),
        (np.zeros((9999, 1, 1, 3), np.uint8), 413, "too many inputs"),
        (np.zeros((9, 0, 1, 3), np.uint8), 400, "empty"),
    ):
        stream = io.BytesIO()
        np.save(stream, array)
        response = server.post("/invocations", stream.getvalue(), Content_Type="application/x-npy")
        assert response.status == status
        assert reason in response.body.decode()


@pytest.mark.parametrize(
    ("encoding", "media_type"),
    [
        ("utf-8-sig", "application/json"),
        ("utf-16", "application/json"),
        ("utf-16-le", "application/json; charset=utf-16le"),
        ("latin-1", 'application/json; charset="ISO-8859-1"'),
        ("utf-8", "text/json"),
        ("ascii", "application/json; charset=unheard-of"),
    ],
)
def test_json_may_be_of_another_charset(server, cat, encoding, media_type):
    name = "\N{NO-BREAK SPACE}" if encoding == "latin-1" else ""
    image = base64.b64encode(cat).decode()
    body = json.dumps({"input": f"data:image/jpeg;name={name};base64,{image}"}, ensure_ascii=False)

    assert rows(server.post("/predict/tiny", body.encode(encoding), Content_Type=media_type))[0]["label"] == "cat"
    body = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [image]}]})
    assert server.post("/v2/models/tiny/infer", body.encode(encoding), Content_Type=media_type).status == 200


@pytest.mark.parametrize(
    "path", ["/predict/tiny/", "//predict/tiny", "/predict//tiny//", "/v1/models/tiny/versions/1:predict"]
)
def test_slashes_too_many_and_versions_change_nothing(server, cat, path):
    assert rows(server.post(path, cat, Content_Type="application/x-image"))[0]["label"] == "cat"


def test_paths_with_a_last_slash_are_those_without(server):
    for path in ("/v2", "/v2/health/ready", "/v2/models/tiny", "/metrics", "/openapi.json"):
        assert server.get(f"{path}/").status == 200
    assert (server.get("/docs/").status, server.get("/docs/").headers["location"]) == (307, "../docs")
    assert server.post("/v1/models/tiny:explain", b"").json == {
        "error": "'explain': not served: expected 'predict'. Use '/v1/models/NAME:predict'."
    }


def test_files_of_a_form_need_no_filename_and_may_be_base64(server, cat):
    disposition = b"--x\r\nContent-Disposition: form-data; "
    for headers, data, name in (
        (b'name="image"', cat, "image"),
        (b'name="f"\r\nContent-Type: image/jpeg', cat, "f"),
        (b'name="f"; filename="a.jpg"; filename*=UTF-8\'\'%E7%8C%AB.jpg', cat, "\u732b.jpg"),
        (b"name=f; FILENAME* = utf-8'en'%E7%8C%AB.jpg", cat, "\u732b.jpg"),
        (b'name="f"; filename="b.jpg"\r\nContent-Transfer-Encoding: BASE64', base64.encodebytes(cat), "b.jpg"),
    ):
        body = disposition + headers + b"\r\n\r\n" + data + b"\r\n--x--\r\n"
        (row,) = rows(server.post("/predict/tiny", body, Content_Type="multipart/form-data; boundary=x"))
        assert (row["input"], row["label"]) == (name, "cat")


def test_a_form_takes_one_or_many(server, cat, rocket):
    body = multipart(("file", "a.jpg", cat), ("file", "b.jpg", rocket), ("top_k", None, b"1"))

    predictions = rows(server.post("/predict/tiny", body, Content_Type=FORM))

    assert [(row["input"], row["label"], len(row["top"])) for row in predictions] == [
        ("a.jpg", "cat", 1),
        ("b.jpg", "rocket", 1),
    ]


def test_one_bad_image_of_several_costs_only_its_own_row(server, cat, rocket):
    body = multipart(("f", "a.jpg", cat), ("f", "b.jpg", b"garbage"), ("f", "c.jpg", rocket))

    predictions = rows(server.post("/predict/tiny", body, Content_Type=FORM))

    assert [row.get("label") for row in predictions] == ["cat", None, "rocket"]
    assert "'b.jpg': not an image" in predictions[1]["error"]


def test_server_timing_has_the_stages(server, cat):
    timing = server.post("/predict/tiny", cat).headers["server-timing"]

    assert [part.partition(";")[0] for part in timing.split(", ")] == ["queue", "decode", "geometry", "network"]


def bomb():
    """Return a PNG of 169 megapixels in a few kilobytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 13_000, 13_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(13_000 * 1626), 9))
        + chunk(b"IEND", b"")
    )


def test_an_image_of_169_megapixels_is_refused_before_it_is_decoded(server):
    body = bomb()
    before = server.resident_mb
    response = server.post("/predict/tiny", body)

    assert len(body) < 50_000
    assert response.status == 400
    assert "13000 x 13000" in response.json["error"]
    assert server.line_of(response.headers["x-request-id"])["ms"] < 500
    assert server.resident_mb < before + 20


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"", {}, 400, "empty"),
        (b"garbage", {}, 400, "not an image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), {"Content_Type": "image/jpeg"}, 400, "image"),
        (b"GIF89a", {}, 400, "image"),
        (b"<html>", {"Content_Type": "text/html"}, 415, "text/html"),
        (b"x", {"Content_Encoding": "zstd"}, 415, "zstd"),
        (b"x", {"Content_Encoding": "gzip"}, 400, "gzip"),
        (b"{", {"Content_Type": "application/json"}, 400, "JSON"),
        (b"{}", {"Content_Type": "application/json"}, 400, "'input' or 'inputs'"),
        (b'{"inputs": []}', {"Content_Type": "application/json"}, 400, "no inputs"),
        (b'{"input": "a", "inputs": []}', {"Content_Type": "application/json"}, 400, "both"),
        (b'{"input": "?"}', {"Content_Type": "application/json"}, 400, "base64"),
        (b'{"input": 5}', {"Content_Type": "application/json"}, 400, "base64"),
        (b'{"input": "", "path": "/etc/passwd"}', {"Content_Type": "application/json"}, 400, "path"),
        (b"[" * 200_000, {"Content_Type": "application/json"}, 400, "JSON"),
        (b"no boundary", {"Content_Type": "multipart/form-data"}, 400, "multipart"),
        (b"--x\r\nwrong", {"Content_Type": "multipart/form-data; boundary=x"}, 400, "cut short, as the boundary"),
        (b"", {"Content_Type": "application/json"}, 400, "body: empty"),
        (b'{"input": NaN}', {"Content_Type": "application/json"}, 400, "JSON has no NaN, but null"),
        (b'{"input": "https://a.example/x.jpg"}', {}, 400, "a path or an address is not opened"),
        (b'{"input": {"content": "aaaa"}}', {}, 400, '{"b64": ...} or {"image": ...}, got an object with \'content\''),
        (b'{"input": [[[0.5, 1.0, 0.2]]]}', {}, 400, "expected uint8 numbers"),
        (b'{"input": [[[256, 0, 0]]]}', {}, 400, "expected values that uint8 has, got 256"),
        (b'{"input": [[1, 2], [3]]}', {}, 400, "in rows of one length"),
        (b"\xe9", {"Content_Type": "application/json; charset=koi8-r"}, 415, "charset not known: got 'koi8-r'"),
        (b"\xff", {"Content_Type": "application/json; charset=utf-16"}, 400, "not of its charset utf-16"),
        (multipart(("top_k", None, b"1")), {"Content_Type": FORM}, 400, "no inputs"),
        (multipart(("f", "a.jpg", b"x"), ("topk", None, b"1")), {"Content_Type": FORM}, 400, "'topk': no such option"),
        (b'{"input": "", "instances": []}', {"Content_Type": "application/json"}, 400, "both"),
        (multipart(*[("f", "a", b"x")] * 300), {"Content_Type": FORM}, 413, "too many inputs"),
        (b"x", {"X_Request_Timeout": "soon"}, 400, "X-Request-Timeout"),
        (b"x", {"X_Request_Timeout": "-1"}, 400, "X-Request-Timeout"),
        (b"x", {"X_Request_Timeout": "nan"}, 400, "X-Request-Timeout"),
    ],
)
def test_a_bad_request_has_its_reason(server, body, headers, status, reason):
    response = server.post("/predict/tiny", body, **headers)

    assert response.status == status, response.body
    assert reason in response.json["error"]


@pytest.mark.parametrize(
    "query", ["top_k=0", "top_k=x", "top_k=-1", "threshold=2", "threshold=x", "threshold=nan", "topk=1"]
)
def test_options_are_checked(server, cat, query):
    assert server.post(f"/predict/tiny?{query}", cat).status == 400


@pytest.mark.parametrize(
    "path", ["/predict/nope", "/predict/", "/predict/../../etc/passwd", "/predict/tiny/x", "/page/x"]
)
def test_there_is_nothing_else(server, cat, path):
    response = server.post(path, cat)

    assert response.status in {404, 405}
    assert response.json["error"]


def test_truncated_images_are_400(server, cat):
    for length in (10, 100, len(cat) // 3, len(cat) - 200):
        assert server.post("/predict/tiny", cat[:length]).status == 400
