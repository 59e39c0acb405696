"""The best class of a photo, from decoded pixels: `ADDRESS MODEL INPUT NPY`, as Triton's classification has it."""

import sys

import numpy as np
import tritonclient.http as triton

address, model, name, file = sys.argv[1:]
pixels = np.load(file)[np.newaxis]
tensor = triton.InferInput(name, list(pixels.shape), "UINT8")
tensor.set_data_from_numpy(pixels)
requested = triton.InferRequestedOutput("probabilities", class_count=1)
response = triton.InferenceServerClient(address).infer(model, [tensor], outputs=[requested])
print(response.as_numpy("probabilities").flat[0].decode())
