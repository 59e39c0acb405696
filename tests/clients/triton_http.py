"""tritonclient over HTTP, as its users call it: binary tensors by default, JSON, raw, compressed, statistics."""

import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

url, _grpc, model, image = sys.argv[1:]
photo = Path(image).read_bytes()
client = triton.InferenceServerClient(url.removeprefix("http://"))
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready(model)
assert client.is_model_ready(model, "1")
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
metadata = client.get_model_metadata(model)
name, output = metadata["inputs"][0]["name"], metadata["outputs"][0]["name"]
assert client.get_model_config(model)["name"] == model
assert client.get_model_repository_index()[0]["state"] == "READY"


def encoded(count=1, binary=True):
    tensor = triton.InferInput(name, [count], "BYTES")
    tensor.set_data_from_numpy(np.array([photo] * count, dtype=np.object_), binary_data=binary)
    return tensor


plain = client.infer(model, [encoded()], request_id="r-1")
assert plain.get_response()["id"] == "r-1"
scores = plain.as_numpy(output)
assert scores.shape[0] == 1
assert abs(scores.sum() - 1) < 1e-3

three = client.infer(model, [encoded(3)], outputs=[triton.InferRequestedOutput(output, binary_data=False)])
assert np.allclose(three.as_numpy(output), scores.repeat(3, axis=0), atol=1e-5)

best = client.infer(model, [encoded()], outputs=[triton.InferRequestedOutput(output, class_count=2)])
value, index, label = best.as_numpy(output)[0][0].decode().split(":")
assert int(index) == scores[0].argmax()
assert abs(float(value) - scores.max()) < 1e-5
assert label

for algorithm in ("gzip", "deflate"):
    packed = client.infer(
        model, [encoded()], request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
    )
    assert np.allclose(packed.as_numpy(output), scores)

for binary in (True, False):
    pixels = triton.InferInput(name, [2, 40, 50, 3], "UINT8")
    pixels.set_data_from_numpy(np.full((2, 40, 50, 3), 90, np.uint8), binary_data=binary)
    assert client.infer(model, [pixels], model_version="1").as_numpy(output).shape == (2, scores.shape[1])

pending = [client.async_infer(model, [encoded()]) for _ in range(4)]
assert all(np.allclose(request.get_result().as_numpy(output), scores) for request in pending)

assert client.get_inference_statistics(model)["model_stats"][0]["inference_stats"]["success"]["count"] >= 8
assert client.infer(model, [encoded()], timeout=20_000_000).as_numpy(output).shape == scores.shape

bad = triton.InferInput(name, [1], "BYTES")
bad.set_data_from_numpy(np.array([b"garbage"], dtype=np.object_))
for model_name, tensor, reason in ((model, bad, "not an image"), ("nope", encoded(), "nope")):
    try:
        client.infer(model_name, [tensor])
    except InferenceServerException as error:
        assert reason in error.message(), error.message()
    else:
        raise AssertionError(f"{model_name}: no error")
print("ok")
