"""Photos to Triton's Python backend: `ADDRESS MODEL PARAMETERS BATCH PHOTO...`, one JSON row per photo.

PARAMETERS are JSON; a request has BATCH photos, and several requests run at once.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton

address, model, parameters, batch, *photos = sys.argv[1:]
client = triton.InferenceServerClient(address, concurrency=4, network_timeout=120, connection_timeout=120)


def column(name, values):
    array = np.empty((len(values), 1), dtype=np.object_)
    array[:, 0] = values
    tensor = triton.InferInput(name, list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array)
    return tensor


size = int(batch)
pending = []
for start in range(0, len(photos), size):
    some = photos[start : start + size]
    inputs = [
        column("image", [Path(photo).read_bytes() for photo in some]),
        column("row_name", [photo.encode() for photo in some]),
    ]
    pending.append(client.async_infer(model, inputs, parameters=json.loads(parameters)))
for response in pending:
    for row in response.get_result().as_numpy("row").flat:
        print(row.decode())
