"""The gRPC API: streams, and the messages of responses."""

import asyncio
import json
import socket

import grpc
import numpy as np
import pytest

from runtime.errors import DeviceError, InputError
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth
from runtime.server.grpc.app import GrpcApp, KeepAlive
from runtime.server.grpc.messages import message_class
from runtime.server.grpc.tensors import message_from_response, request_from_message
from runtime.server.limits import Limits
from runtime.server.open_inference.claims import TensorClaims
from runtime.server.open_inference.requests import InferResponse
from runtime.server.service import Service


@pytest.mark.parametrize(
    ("outputs", "raw_outputs"),
    [
        ({"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float16)}, 2),
        ({"a": np.zeros(2, np.float16), "b": np.zeros(2, np.float16)}, 2),
        ({"a": np.zeros(2, np.float32), "b": np.zeros(2, np.int64)}, 0),
    ],
)
def test_either_all_outputs_are_raw_or_none(outputs, raw_outputs):
    """FP16 has no typed contents."""
    message = message_from_response(InferResponse(model="m", id="", outputs=outputs), raw=False)

    assert len(message.raw_output_contents) == raw_outputs
    assert [output.HasField("contents") for output in message.outputs] == [not raw_outputs] * 2


def test_typed_bytes_have_the_number_of_their_shape():
    message = message_class("ModelInferRequest")(model_name="m")
    tensor = message.inputs.add(name="x", datatype="BYTES", shape=[2, 1])
    tensor.contents.bytes_contents.extend([b"\xff", b""])

    claims = TensorClaims(names=["x"], check_rows=lambda _: None, reserve=lambda _: None)
    assert request_from_message(message, claims).inputs["x"].tolist() == [[b"\xff"], [b""]]
    tensor.contents.bytes_contents.append(b"more")
    with pytest.raises(InputError, match="expected 2 values"):
        request_from_message(message, claims)


def test_a_port_that_is_in_use_is_named_with_its_option():
    async def start(port):
        service = Service([], limits=Limits(), workers=1)
        await GrpcApp(service, auth=BearerAuth(""), log=AccessLog("none")).start("127.0.0.1", port)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(DeviceError, match=r"cannot listen: in use.*--grpc-port\.$"):
            asyncio.run(start(taken.getsockname()[1]))


class _FaultyService(Service):
    """A service without models: ``find`` has a fault, ``infer`` never ends."""

    def find(self, name, version=""):
        if name == "faulty":
            raise ZeroDivisionError(name)

    def check_admission(self, context):
        pass

    def tensor_claims(self, model, reservation):
        return TensorClaims(names=[], check_rows=lambda _: None, reserve=reservation.extend)

    async def infer(self, request, context):
        await asyncio.sleep(60)


async def _stream(service, names, *, read):
    """Send one request per model name on one stream, and return the first ``read`` responses; then cancel it."""
    app = GrpcApp(service, auth=BearerAuth(""), log=AccessLog("json"))
    port = await app.start("127.0.0.1", 0)
    request = message_class("ModelInferRequest")
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method = channel.stream_stream(
                "/inference.GRPCInferenceService/ModelStreamInfer",
                request_serializer=request.SerializeToString,
                response_deserializer=message_class("ModelStreamInferResponse").FromString,
            )
            call = method(iter([request(model_name=name, id=name) for name in names]), timeout=20)
            responses = [await call.read() for _ in range(read)]
            await asyncio.sleep(0.2)
            call.cancel()
            await asyncio.sleep(0.2)
            return responses
    finally:
        await app.stop(1)


class _EchoingService(_FaultyService):
    """A service whose ``infer`` has no outputs."""

    async def infer(self, request, context):
        return InferResponse(model=request.model, id=request.id, outputs={}), {}


def test_each_response_of_a_stream_is_its_requests_last():
    echoing = _EchoingService([], limits=Limits(), workers=1)
    try:
        (response,) = asyncio.run(_stream(echoing, ["a"], read=1))
    finally:
        echoing.close()

    assert response.infer_response.id == "a"
    assert response.infer_response.parameters["triton_final_response"].bool_param


# An HTTP/2 connection's first bytes, with settings as they are; and one ping.
HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
PING = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"12345678"


@pytest.mark.parametrize(("min_client_ping_s", "stays"), [(0.02, True), (300, False)])
def test_a_client_may_ping_as_often_as_the_option_says(service, min_client_ping_s, stays):
    async def ping():
        app = GrpcApp(service, auth=BearerAuth(""), log=AccessLog("none"))
        port = await app.start("127.0.0.1", 0, keep_alive=KeepAlive(min_client_ping_s=min_client_ping_s))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HTTP2_START)
            received = b""
            for _ in range(8):
                writer.write(PING)
                try:
                    received += await asyncio.wait_for(reader.read(10_000), 0.05)
                except TimeoutError:
                    continue  # a ping that has no response yet
                await asyncio.sleep(0.05)
                if reader.at_eof():
                    break
            writer.transport.abort()
            return received
        finally:
            await app.stop(0)

    received = asyncio.run(ping())
    assert PING[9:] in received
    assert (b"too_many_pings" not in received) is stays


@pytest.fixture
def service():
    faulty = _FaultyService([], limits=Limits(), workers=1)
    yield faulty
    faulty.close()


def test_a_fault_in_a_stream_is_logged_and_the_stream_goes_on(service, capsys, caplog):
    responses = asyncio.run(_stream(service, ["faulty", "faulty"], read=2))

    assert [response.infer_response.id for response in responses] == ["faulty", "faulty"]
    assert all("internal error" in response.error_message for response in responses)
    assert all(response.infer_response.parameters["triton_final_response"].bool_param for response in responses)
    assert [record.exc_info[0] for record in caplog.records if record.name == "truecopy.server"] == [
        ZeroDivisionError,
        ZeroDivisionError,
    ]
    statuses = [json.loads(line)["status"] for line in capsys.readouterr().err.splitlines()]
    assert statuses == ["INTERNAL", "INTERNAL"]


def test_a_stream_that_the_client_leaves_is_logged_as_cancelled(service, capsys):
    asyncio.run(_stream(service, ["slow"], read=0))

    statuses = [json.loads(line)["status"] for line in capsys.readouterr().err.splitlines()]
    assert statuses == ["CANCELLED"]
    assert 'truecopy_request_seconds_count{front="grpc",status="CANCELLED"} 1.0' in service.text_of_metrics().decode()
