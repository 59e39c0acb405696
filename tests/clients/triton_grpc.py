"""tritonclient over gRPC: calls, asynchronous calls, streams, deadlines, errors."""

import queue
import sys
from pathlib import Path

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

_url, address, model, image = sys.argv[1:]
photo = Path(image).read_bytes()
client = triton.InferenceServerClient(address)
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready(model)
metadata = client.get_model_metadata(model)
name, output = metadata.inputs[0].name, metadata.outputs[0].name
assert metadata.inputs[0].shape[0] == -1
config = client.get_model_config(model).config
assert (config.name, config.backend, config.max_batch_size) == (model, "onnxruntime", 0)
assert [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in config.input] == [
    (name, 2, [-1, -1, -1, 3])
]  # TYPE_UINT8
assert [tensor.name for tensor in config.output] == [output]
assert client.get_server_metadata().name == "truecopy"
assert client.get_model_repository_index().models[0].state == "READY"


def encoded(data=photo):
    tensor = triton.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([data], dtype=np.object_))
    return tensor


plain = client.infer(model, [encoded()], request_id="r-2")
assert plain.get_response().id == "r-2"
scores = plain.as_numpy(output)
assert abs(scores.sum() - 1) < 1e-3
best = client.infer(model, [encoded()], outputs=[triton.InferRequestedOutput(output, class_count=1)])
assert int(best.as_numpy(output)[0][0].decode().split(":")[1]) == scores[0].argmax()

pixels = triton.InferInput(name, [2, 40, 50, 3], "UINT8")
pixels.set_data_from_numpy(np.full((2, 40, 50, 3), 90, np.uint8))
assert client.infer(model, [pixels]).as_numpy(output).shape == (2, scores.shape[1])

results = queue.Queue()
client.async_infer(model, [encoded()], callback=lambda result, error: results.put((result, error)))
result, error = results.get(timeout=20)
assert error is None
assert np.allclose(result.as_numpy(output), scores)

client.start_stream(callback=lambda result, error: results.put((result, error)))
for data in (photo, b"garbage", photo):
    client.async_stream_infer(model, [encoded(data)])
outcomes = [results.get(timeout=20) for _ in range(3)]
client.stop_stream()
assert [error is None for _, error in outcomes] == [True, False, True], outcomes

statistics = client.get_inference_statistics(model).model_stats[0]
assert statistics.inference_stats.success.count >= 4
assert statistics.inference_count >= 5

for model_name, data, code in (
    (model, b"garbage", grpc.StatusCode.INVALID_ARGUMENT),
    ("nope", photo, grpc.StatusCode.NOT_FOUND),
):
    try:
        client.infer(model_name, [encoded(data)])
    except InferenceServerException as error:
        assert error.status() == str(code), error.status()
    else:
        raise AssertionError(f"{model_name}: no error")
print("ok")
