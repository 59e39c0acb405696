"""KServe's client over HTTP."""

import asyncio
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

url, _grpc, model, image = sys.argv[1:]
photo = Path(image).read_bytes()


async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=20))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, model)
    for binary in (True, False):
        pixels = InferInput(name="image", shape=[1, 20, 30, 3], datatype="UINT8")
        pixels.set_data_from_numpy(np.full((1, 20, 30, 3), 90, np.uint8), binary_data=binary)
        response = await client.infer(
            url, InferRequest(model_name=model, infer_inputs=[pixels], request_id="k-1"), model_name=model
        )
        assert response.id == "k-1"
        assert abs(response.outputs[0].as_numpy().sum() - 1) < 1e-3
    encoded = InferInput(name="image", shape=[1], datatype="BYTES")
    encoded.set_data_from_numpy(np.array([photo], dtype=np.object_), binary_data=True)
    response = await client.infer(url, InferRequest(model_name=model, infer_inputs=[encoded]), model_name=model)
    assert abs(response.outputs[0].as_numpy().sum() - 1) < 1e-3


asyncio.run(main())
print("ok")
