"""A server of the Open Inference Protocol under test, and how its cases talk to it."""

import base64
import http.client
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request, as it goes out."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON, or its JSON part where binary tensors follow."""
        length = self.headers.get(HEADER_LENGTH.lower())
        return json.loads(self.body[: int(length)] if length else self.body)

    @property
    def tail(self) -> bytes:
        """The binary tensors behind the JSON part."""
        length = self.headers.get(HEADER_LENGTH.lower())
        return self.body[int(length) :] if length else b""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server and one of its models, which takes encoded images as BYTES and uint8 images, and gives scores."""

    url: str
    model: str
    image: bytes

    def send(self, request: Request, timeout_s: float = 30) -> Answer:
        """Return the server's answer."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
        try:
            connection.request(request.method, request.path, request.body or None, dict(request.headers))
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=headers, body=response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """Return the answer to a GET."""
        return self.send(Request(method="GET", path=path))

    @cached_property
    def metadata(self) -> Any:
        """What the server says of the model."""
        return self.get(f"/v2/models/{self.model}").json

    @property
    def input(self) -> str:
        """The name of the image input."""
        return self.metadata["inputs"][0]["name"]

    @property
    def output(self) -> str:
        """The name of the scores."""
        return self.metadata["outputs"][0]["name"]

    @property
    def classes(self) -> int:
        """How many scores an image has."""
        return self.metadata["outputs"][0]["shape"][-1]

    def infer(self, header: Any, tail: bytes = b"", *, binary: bool | None = None, **headers: str) -> Request:
        """Return an inference request: JSON alone, or JSON and binary tensors."""
        encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
        if binary or (binary is None and tail):
            headers[HEADER_LENGTH] = str(len(encoded))
        return Request(
            method="POST",
            path=f"/v2/models/{self.model}/infer",
            body=encoded + tail,
            headers={"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
        )

    def text_input(self, count: int = 1, **changes: Any) -> dict[str, Any]:
        """Return the image input as base64 in JSON."""
        data = [base64.b64encode(self.image).decode()] * count
        return {"name": self.input, "datatype": "BYTES", "shape": [count], "data": data, **changes}

    def binary_input(self, count: int = 1, **changes: Any) -> tuple[dict[str, Any], bytes]:
        """Return the image input as a binary tensor, and its bytes."""
        tail = (struct.pack("<I", len(self.image)) + self.image) * count
        parameters = {"binary_data_size": len(tail)}
        return {"name": self.input, "datatype": "BYTES", "shape": [count], "parameters": parameters, **changes}, tail


Check = Callable[[Target, Answer], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question to a server, and what a right answer is."""

    name: str
    ask: Callable[[Target], Request]
    status: int | tuple[int, ...] = 200
    check: Check | None = None
    error: bool = False

    def check_answer(self, target: Target, answer: Answer) -> None:
        """Raise AssertionError, or ValueError for what is no JSON, unless ``answer`` is a right one."""
        wanted = (self.status,) if isinstance(self.status, int) else self.status
        assert answer.status in wanted, answer.body[:500]
        if self.error:
            assert answer.json["error"], "an error has a reason"
        if self.check is not None:
            self.check(target, answer)
