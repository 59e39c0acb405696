"""open-inference-grpc, the protocol's own stubs: raw and typed contents; and health and reflection."""

import sys
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from open_inference.grpc.protocol import ModelInferRequest, ModelMetadataRequest, ServerReadyRequest
from open_inference.grpc.service import GRPCInferenceServiceStub

_url, address, model, image = sys.argv[1:]
photo = Path(image).read_bytes()
channel = grpc.insecure_channel(address)
stub = GRPCInferenceServiceStub(channel)
assert stub.ServerReady(ServerReadyRequest()).ready
assert stub.ModelMetadata(ModelMetadataRequest(name=model)).inputs[0].name == "image"
typed = ModelInferRequest(model_name=model, id="s-1")
tensor = typed.inputs.add(name="image", datatype="BYTES", shape=[1])
tensor.contents.bytes_contents.append(photo)
response = stub.ModelInfer(typed)
assert response.id == "s-1"
assert not response.raw_output_contents
scores = np.array(response.outputs[0].contents.fp32_contents)
assert abs(scores.sum() - 1) < 1e-3
raw = ModelInferRequest(model_name=model)
raw.inputs.add(name="image", datatype="UINT8", shape=[1, 4, 5, 3])
raw.raw_input_contents.append(bytes(60))
response = stub.ModelInfer(raw)
assert not response.outputs[0].HasField("contents")
assert abs(np.frombuffer(response.raw_output_contents[0], "<f4").sum() - 1) < 1e-3
ints = ModelInferRequest(model_name=model)
tensor = ints.inputs.add(name="image", datatype="UINT8", shape=[1, 4, 5, 3])
tensor.contents.uint_contents.extend(range(60))
assert abs(sum(stub.ModelInfer(ints).outputs[0].contents.fp32_contents) - 1) < 1e-3

for change, code in (
    ({"model_name": "nope"}, grpc.StatusCode.NOT_FOUND),
    ({"model_version": "9"}, grpc.StatusCode.NOT_FOUND),
    ({"raw_input_contents": [b"x", b"y"]}, grpc.StatusCode.INVALID_ARGUMENT),
):
    wrong = ModelInferRequest()
    wrong.CopyFrom(ints)
    for field, value in change.items():
        if isinstance(value, list):
            getattr(wrong, field).extend(value)
        else:
            setattr(wrong, field, value)
    try:
        stub.ModelInfer(wrong)
    except grpc.RpcError as error:
        assert error.code() == code, (change, error)
    else:
        raise AssertionError(change)
try:
    stub.ModelInfer(typed, timeout=1e-6)
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED

health = health_pb2_grpc.HealthStub(channel)
for service in ("", "inference.GRPCInferenceService"):
    status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
    assert status == health_pb2.HealthCheckResponse.SERVING
reflect = reflection_pb2_grpc.ServerReflectionStub(channel)
(listed,) = reflect.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
services = {service.name for service in listed.list_services_response.service}
assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= services
(described,) = reflect.ServerReflectionInfo(
    iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService")])
)
assert described.file_descriptor_response.file_descriptor_proto
print("ok")
