"""tritonclient over HTTP with asyncio, many requests at once."""

import asyncio
import sys
from pathlib import Path

import numpy as np
import tritonclient.http.aio as triton

url, _grpc, model, image = sys.argv[1:]
photo = Path(image).read_bytes()


async def main():
    async with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        assert await client.is_server_ready()
        metadata = await client.get_model_metadata(model)
        name, output = metadata["inputs"][0]["name"], metadata["outputs"][0]["name"]

        async def ask(gray):
            pixels = triton.InferInput(name, [1, 30, 30, 3], "UINT8")
            pixels.set_data_from_numpy(np.full((1, 30, 30, 3), gray, np.uint8))
            return (await client.infer(model, [pixels], request_id=str(gray))).get_response()["id"]

        assert await asyncio.gather(*[ask(gray) for gray in range(32)]) == [str(gray) for gray in range(32)]
        encoded = triton.InferInput(name, [1, 1], "BYTES")
        encoded.set_data_from_numpy(np.array([[photo]], dtype=np.object_))
        assert abs((await client.infer(model, [encoded])).as_numpy(output).sum() - 1) < 1e-3


asyncio.run(main())
print("ok")
