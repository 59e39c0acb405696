"""Requests that are nearly right, each made from a number: JSON, forms, binary tensors, protobuf."""

import base64
import gzip
import http.client
import json
import random
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import grpc
from support.hostile_files import VALUES, damaged, mutated
from support.serving import DATA, Server

from runtime.server.grpc.messages import message_class

JSON = {"Content-Type": "application/json"}
METHODS = (
    *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics"),
    *("RepositoryIndex", "ModelInfer", "ModelInfer", "ModelInfer", "ModelInfer", "ModelInfer"),
)

_HEADERS = (
    *("Accept", "Accept-Encoding", "X-Request-Id", "traceparent", "Authorization", "Range", "Expect", "Cookie"),
    *("If-None-Match", "Content-Type", "Origin", "Inference-Header-Content-Length"),
)
_HEADER_VALUES = (
    *("", "x", "gzip;q=x,,;", "x" * 3000, "\t", "bytes=0-1", "Bearer x", "00-" + "0" * 32 + "-1-1", "*"),
    *("100-continue", "application/json; charset=utf-16"),
)

# Statuses that say 'try again later' are no faults of a server; these are.
FAULTS = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "no response"}


@dataclass(frozen=True, kw_only=True)
class FuzzedRequest:
    """One request: over HTTP with a verb, or one gRPC method with an encoded message."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def is_http(self) -> bool:
        """Whether it goes over HTTP."""
        return self.path.startswith("/")


def fuzzed_request(seed: int) -> FuzzedRequest:
    """Return the request of a number."""
    rng = random.Random(seed)
    return rng.choice((_predict_json, _form, _infer_json, _infer_json, _infer_binary, _protobuf, _protobuf, _other))(
        rng
    )


def _photo(rng: random.Random) -> bytes:
    data = (DATA / "cat.jpg").read_bytes()
    return data if rng.random() < 0.4 else damaged(rng, data)


def _text(rng: random.Random, document: Any) -> bytes:
    """Return JSON with up to three mutations, and sometimes damage."""
    for _ in range(rng.randrange(4)):
        changed = mutated(rng, document)[0]
        document = changed if changed else document
    text = json.dumps(document).encode("utf-8", "surrogatepass")
    return damaged(rng, text) if rng.random() < 0.15 else text


def _encoded(rng: random.Random, method: str, path: str, body: bytes, headers: dict[str, str]) -> FuzzedRequest:
    """Return a request over HTTP, a tenth of them compressed, rightly or not."""
    choice = rng.randrange(30)
    if choice == 0:
        body, headers = gzip.compress(body), headers | {"Content-Encoding": "gzip"}
    elif choice == 1:
        body, headers = zlib.compress(body), headers | {"Content-Encoding": "deflate"}
    elif choice == 2:
        body, headers = damaged(rng, gzip.compress(body)), headers | {"Content-Encoding": "gzip"}
    elif choice == 3:
        headers = headers | {"Content-Encoding": rng.choice(["br", "identity", "gzip, gzip", "x", ""])}
    return FuzzedRequest(method=method, path=path, body=body, headers=headers)


def _query(rng: random.Random) -> str:
    name = rng.choice(["top_k", "threshold", "sequence", "explain", "format", "a%00", "%ff"])
    value = rng.choice(["1", "0", "-1", "9" * 30, "1e9", "nan", "inf", "", "%00", "[]", "true", "0.5"])
    return f"?{name}={value}" if rng.random() < 0.3 else ""


def _predict_json(rng: random.Random) -> FuzzedRequest:
    encoded = base64.b64encode(_photo(rng)).decode()
    pixels = [[[0, 128, 255]] * 3] * 3
    one = rng.choice([encoded, {"b64": encoded}, pixels, 1.5, "text"])
    document = rng.choice(
        [
            {"input": one},
            {"inputs": [one, one]},
            {"instances": [one]},
            {"input": one, "top_k": 2, "threshold": 0.5},
            [one],
        ]
    )
    return _encoded(rng, "POST", f"/predict/tiny{_query(rng)}", _text(rng, document), JSON)


def _form(rng: random.Random) -> FuzzedRequest:
    boundary = rng.choice(["x", "x", "x" * 70, "a b", ""])
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{rng.choice(["file", "top_k", "", "a" * 300])}"; '
        f'filename="{rng.choice(["cat.jpg", "", "../x", "ä", chr(34)])}"\r\n'
        f"Content-Type: {rng.choice(['image/jpeg', 'text/plain; charset=x', '', 'application/json'])}\r\n\r\n".encode()
        + _photo(rng)
        + b"\r\n"
        for _ in range(rng.randrange(1, 4))
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    kind = rng.choice([f"multipart/form-data; boundary={boundary}", f'multipart/form-data; boundary="{boundary}"'])
    kind = rng.choice([kind, kind, kind, "multipart/form-data", "multipart/mixed; boundary=x"])
    body = damaged(rng, body) if rng.random() < 0.3 else body
    return _encoded(rng, "POST", f"/predict/tiny{_query(rng)}", body, {"Content-Type": kind})


def _tensor(rng: random.Random) -> dict[str, Any]:
    encoded = base64.b64encode(_photo(rng)).decode()
    return rng.choice(
        [
            {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [7] * 12},
            {"name": "image", "datatype": "BYTES", "shape": [1], "data": [encoded]},
            {"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [1] * 3072},
            {"name": "image", "datatype": "FP32", "shape": [1, 1, 1, 3], "data": [0.5, 1e300, -1]},
            {"name": "image", "datatype": "UINT8", "shape": [2, 1, 1, 3], "data": [[[[1, 2, 3]]], [[[4, 5, 6]]]]},
        ]
    )


def _infer(rng: random.Random) -> dict[str, Any]:
    document: dict[str, Any] = {"inputs": [_tensor(rng) for _ in range(rng.choice([1, 1, 1, 2]))]}
    if rng.random() < 0.5:
        output = {"name": "probabilities", "parameters": {"binary_data": True, "classification": 2}}
        document |= {"id": "a", "outputs": [output], "parameters": {"binary_data_output": True, "timeout": 1000}}
    return document


def _infer_path(rng: random.Random) -> str:
    version = rng.choice([*[""] * 8, "/versions/1", "/versions/1", "/versions/2", "/versions/x", "/versions/"])
    return f"/v2/models/{rng.choice(['tiny'] * 20 + ['other', '%00', 'x' * 500])}{version}/infer"


def _infer_json(rng: random.Random) -> FuzzedRequest:
    return _encoded(rng, "POST", _infer_path(rng), _text(rng, _infer(rng)), JSON)


def _infer_binary(rng: random.Random) -> FuzzedRequest:
    photo = _photo(rng)
    data = rng.choice([bytes(12), len(photo).to_bytes(4, "little") + photo, b"", rng.randbytes(40), b"\xff" * 8])
    shape = rng.choice([[1, 2, 2, 3], [1], [1, 1], [2**63 - 1], [0], [-1, 3]])
    tensor = {"name": "image", "datatype": rng.choice(["UINT8", "BYTES", "FP16", "BF16", "BOOL"]), "shape": shape}
    tensor["parameters"] = {"binary_data_size": len(data)}
    header = _text(rng, {**_infer(rng), "inputs": [tensor]})
    length = rng.choice([str(len(header))] * 5 + ["0", "-1", "x", "", "9" * 30, str(len(header) + 1)])
    headers = {"Inference-Header-Content-Length": length, "Content-Type": "application/octet-stream"}
    return _encoded(rng, "POST", _infer_path(rng), header + data, headers)


def _protobuf(rng: random.Random) -> FuzzedRequest:
    method = rng.choice(METHODS)
    message = message_class(f"{method}Request")()
    if method == "ModelInfer":
        _fill(rng, message)
    else:
        for name in ("name", "version", "repository_name"):
            if name in message.DESCRIPTOR.fields_by_name:
                setattr(message, name, rng.choice(["tiny", "", "1", "x" * 400]))
    data = message.SerializeToString()
    if rng.random() < 0.4:
        data = damaged(rng, data)
    if rng.random() < 0.1:
        number = rng.randrange(1, 40) << 3 | rng.randrange(8)
        data += bytes([number & 0x7F | 0x80, number >> 7, rng.randrange(256)]) + rng.randbytes(6)
    return FuzzedRequest(method="gRPC", path=method, body=data)


def _fill(rng: random.Random, message: Any) -> None:
    message.model_name = rng.choice(["tiny"] * 8 + ["", "other", "\0", "x" * 600])
    message.model_version = rng.choice(["", "", "", "1", "2", "x"])
    message.id = rng.choice(["", "a", "ä" * 200])
    for _ in range(rng.choice([1, 1, 1, 1, 0, 2])):
        name, datatype = (
            rng.choice(["image", "image", "pixels", "", "x"]),
            rng.choice(["UINT8", "BYTES", "FP32", "", "X"]),
        )
        shape = rng.choice([[1, 2, 2, 3], [1], [2**62, 4], [-1], [0], [], [1] * 40, [1, 32, 32, 3]])
        tensor = message.inputs.add(name=name, datatype=datatype, shape=shape)
        values = [rng.choice([0, 1, 255, 256]) for _ in range(rng.choice([12, 0, 1, 3072]))]
        match rng.randrange(6):
            case 0:
                tensor.contents.uint_contents.extend(values)
            case 1:
                tensor.contents.bytes_contents.append(_photo(rng))
            case 2:
                tensor.contents.fp32_contents.extend([float("nan"), 1e38])
            case 3:
                message.raw_input_contents.append(bytes(len(values)))
            case 4:
                photo = _photo(rng)
                message.raw_input_contents.append(len(photo).to_bytes(4, "little") + photo)
        if rng.random() < 0.2:
            tensor.parameters[rng.choice(["binary_data_size", "classification", ""])].int64_param = rng.choice(
                [0, -1, 2**62]
            )
    if rng.random() < 0.3:
        output = message.outputs.add(name=rng.choice(["probabilities", "probabilities", "", "x"]))
        output.parameters["classification"].int64_param = rng.choice([0, 1, 3, -1, 2**62])
    if rng.random() < 0.2:
        message.parameters[rng.choice(["timeout", "priority", "x"])].string_param = rng.choice(["1", "x" * 300, "\0"])


def _other(rng: random.Random) -> FuzzedRequest:
    """Return a request of another path, verb or header than those of predictions."""
    path = rng.choice(
        [
            *("/", "/v2", "/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/ready", "/metrics", "/openapi.json"),
            *(
                "/v2/models/tiny/stats",
                "/v2/repository/index",
                "/health",
                "/docs",
                "/predict",
                "/predict/",
                "//",
                "/%2e%2e/x",
            ),
            "/" + "".join(rng.choice("/.%abc0?;=&") for _ in range(rng.randrange(1, 60))),
        ]
    )
    method = rng.choice(["GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
    headers = {rng.choice(_HEADERS): rng.choice(_HEADER_VALUES)}
    return _encoded(rng, method, path, rng.choice([b"", b"x", b"{}", json.dumps(rng.choice(VALUES)).encode()]), headers)


def send_all(server: Server, seeds: Iterable[int]) -> tuple[Counter[str], list[str]]:
    """Return the number of responses by their status, and a line for each that is the server's fault."""
    statuses: Counter[str] = Counter()
    faults = []
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    with grpc.insecure_channel(server.grpc) as channel:
        for seed in seeds:
            request = fuzzed_request(seed)
            status = _send_http(connection, request) if request.is_http else _send_grpc(channel, request)
            statuses[status] += 1
            if status in FAULTS or (status.startswith("5") and status not in {"503", "504"}):
                faults.append(
                    f"{seed}: {status}: {request.method} {request.path[:80]} {request.headers} {request.body[:200]!r}"
                )
    connection.close()
    return statuses, faults


def _send_http(connection: http.client.HTTPConnection, request: FuzzedRequest) -> str:
    for _ in range(2):  # a connection that the server had closed after the last response is opened again
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            response = connection.getresponse()
            response.read()
            return str(response.status)
        except (ConnectionError, http.client.HTTPException):
            connection.close()
    return "no response"


def _send_grpc(channel: grpc.Channel, request: FuzzedRequest) -> str:
    send = channel.unary_unary(f"/inference.GRPCInferenceService/{request.path}")
    try:
        send(request.body, timeout=30)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"
