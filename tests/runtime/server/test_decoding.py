"""The borders of decoding: whatever is raised behind them is the request's own error, on both transports."""

import asyncio
import builtins
import json
import logging

import grpc
import httpx
import pytest

from runtime.errors import ArtifactError, InputError
from runtime.inputs.image.decoder import ImageDecoder
from runtime.inputs.image.payload import ImagePayload
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth
from runtime.server.decoding import ENDINGS, decode, detached
from runtime.server.errors import MESSAGE_CHARACTERS, TooLargeError, bounded, message_of
from runtime.server.grpc.app import GrpcApp
from runtime.server.grpc.messages import message_class
from runtime.server.http.app import HttpApp
from runtime.server.limits import Limits
from runtime.server.served_model import load_verified
from runtime.server.service import Service


class Panic(BaseException):
    """What Rust's panics are in Python: no Exception."""


class UnprintableError(Exception):
    """An error whose text fails to be made, as that of a number of too many digits does."""

    def __str__(self):
        return str(10**5000)


def builtin_errors(kind=BaseException):
    found = set()
    for child in kind.__subclasses__():
        if getattr(builtins, child.__name__, None) is child:
            found |= {child} | builtin_errors(child)
    return found


def make(kind):
    """Return an error of a class, whatever its constructor takes."""
    if issubclass(kind, UnicodeDecodeError):
        return kind("utf-8", b"\xff", 0, 1, "planted")
    if issubclass(kind, UnicodeEncodeError):
        return kind("ascii", "é", 0, 1, "planted")
    if issubclass(kind, UnicodeTranslateError):
        return kind("é", 0, 1, "planted")
    if issubclass(kind, BaseExceptionGroup):
        return kind("planted", [ValueError("inner")])
    return kind("planted")


KINDS = sorted({*builtin_errors(), Panic, UnprintableError} - set(ENDINGS), key=lambda kind: kind.__name__)


def raising(kind):
    def fail(*_arguments, **_options):
        raise make(kind)

    return fail


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_of_exception_becomes_the_inputs_error(kind):
    with pytest.raises(InputError, match=r"^'x': ") as caught:
        decode(raising(kind), "'x'")

    assert len(str(caught.value)) < MESSAGE_CHARACTERS
    assert isinstance(caught.value, TooLargeError) == issubclass(kind, MemoryError)


@pytest.mark.parametrize("kind", [*ENDINGS, InputError, ArtifactError])
def test_our_errors_and_what_ends_the_process_pass(kind):
    with pytest.raises(kind):
        decode(raising(kind), "'x'")


def test_a_traceback_is_logged_for_debugging_only(caplog):
    with caplog.at_level(logging.INFO), pytest.raises(InputError):
        decode(raising(Panic), "'x'")
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, logger="truecopy.server"), pytest.raises(InputError):
        decode(raising(Panic), "'x'")
    assert [record.exc_info[0] for record in caplog.records] == [Panic]


def test_a_detached_error_holds_no_frames():
    with pytest.raises(InputError) as caught:
        decode(raising(ValueError), "'x'")

    error = detached(caught.value)

    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


def test_a_message_is_cut_in_its_middle():
    message = message_of(InputError(f"'{'n' * 10**6}': not served here. Check the name."))

    assert len(message) <= MESSAGE_CHARACTERS
    assert message.startswith("'nnn")
    assert message.endswith("not served here. Check the name.")
    assert bounded("a\ud800b") == "a\\ud800b"


@pytest.fixture(scope="module")
def model(tiny):
    return load_verified(tiny, name="", device="cpu", cores=1, max_pixels=10**7)


@pytest.fixture(scope="module")
def service(model):
    opened = Service([model], limits=Limits(), workers=1)
    opened.ready = opened.open = True
    yield opened
    opened.close()


# What a request's own bytes and values lead to, each by the function behind the border that decodes it.
BORDERS = {
    "JSON values": (ImagePayload, "from_json"),
    "rows of tensors": (ImagePayload, "rows"),
    "decoding": (ImageDecoder, "decode"),
    "preparation": (ImageDecoder, "prepare"),
    "the body": (ImagePayload, "from_body"),
    "files of forms": (ImagePayload, "from_file"),
}
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nz\r\n--x--\r\n',
    "multipart/form-data; boundary=x",
)


@pytest.mark.parametrize("border", BORDERS)
def test_http_has_a_4xx_for_every_class_of_exception(service, cat, monkeypatch, border, capsys):
    app = HttpApp(service, auth=BearerAuth(""), log=AccessLog("json"))
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [1] * 12}
    infer = ("/v2/models/tiny/infer", json.dumps({"inputs": [tensor]}).encode(), "application/json")
    path, body, media_type = {
        "JSON values": ("/predict/tiny", b'{"input": "AAAA"}', "application/json"),
        "rows of tensors": infer,
        "files of forms": ("/predict/tiny", *FORM),
    }.get(border, ("/predict/tiny", cat, "image/jpeg"))

    async def send_all():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for kind in KINDS:
                monkeypatch.setattr(*BORDERS[border], raising(kind))
                response = await client.post(path, content=body, headers={"content-type": media_type})
                assert response.status_code in {400, 413}, (kind, response.content)
                assert len(response.json()["error"]) <= MESSAGE_CHARACTERS

    asyncio.run(send_all())
    assert "Traceback" not in capsys.readouterr().err
    assert service.admission.held_bytes == service.admission.runs == 0


async def call_grpc(service, calls):
    """Return the status of each call, a method and encoded bytes, on a server without a token."""
    app = GrpcApp(service, auth=BearerAuth(""), log=AccessLog("none"))
    port = await app.start("127.0.0.1", 0)
    await app.set_serving(True)
    statuses = []
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for prepare, method, data in calls:
                prepare()
                try:
                    await channel.unary_unary(method)(data, timeout=20)
                    statuses.append(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    statuses.append(error.code() if len(error.details()) <= MESSAGE_CHARACTERS else "too long")
    finally:
        await app.stop(1)
    return statuses


@pytest.mark.parametrize("border", ["rows of tensors", "decoding", "preparation"])
def test_grpc_has_invalid_argument_for_every_class_of_exception(service, cat, monkeypatch, border):
    message = message_class("ModelInferRequest")(model_name="tiny")
    message.inputs.add(name="image", datatype="BYTES", shape=[1]).contents.bytes_contents.append(cat)
    calls = [
        (
            lambda kind=kind: monkeypatch.setattr(*BORDERS[border], raising(kind)),
            "/inference.GRPCInferenceService/ModelInfer",
            message.SerializeToString(),
        )
        for kind in KINDS
    ]

    assert set(asyncio.run(call_grpc(service, calls))) == {grpc.StatusCode.INVALID_ARGUMENT}


def test_bytes_that_are_no_message_are_invalid_arguments_of_every_method(service):
    methods = [
        "inference.GRPCInferenceService/ModelInfer",
        "inference.GRPCInferenceService/ServerLive",
        "inference.GRPCInferenceService/ModelStatistics",
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ]
    # A length beyond the end, a string that is not UTF-8, a group that does not end, a number without an end.
    damaged = [b"\x0a\x7f", b"\x0a\x01\xff", b"\x0b", b"\xff" * 20]
    calls = [(lambda: None, f"/{method}", data) for method in methods for data in damaged]

    statuses = asyncio.run(call_grpc(service, calls))

    # A message without fields has one with an unknown string.
    assert set(statuses) <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK}
    assert set(statuses[: len(damaged)]) == {grpc.StatusCode.INVALID_ARGUMENT}
    assert statuses.count(grpc.StatusCode.OK) <= 2
