"""The table's model in Triton's Python backend: encoded images as BYTES [-1] in, an artifact's scores out.

JSON has no bytes, and Triton takes a text as it stands: an element may be the base64 of an image, too.
"""

import base64
import binascii
from pathlib import Path

import numpy as np
import triton_python_backend_utils as triton

import runtime


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"] / "artifact"
        self._model = runtime.load(folder, device="cpu", threads=1)

    def execute(self, requests):
        return [self._response(request) for request in requests]

    def _response(self, request):
        images = triton.get_input_tensor_by_name(request, "image").as_numpy()
        try:
            prepared = [self._model.prepare(_bytes_of(image), subject=f"#{row}") for row, image in enumerate(images)]
            scores = np.stack(self._model.score(prepared))
        except runtime.InputError as error:
            return triton.InferenceResponse(
                output_tensors=[], error=triton.TritonError(str(error), triton.TritonError.INVALID_ARG)
            )
        return triton.InferenceResponse(output_tensors=[triton.Tensor("probabilities", scores)])


def _bytes_of(element):
    try:
        return base64.b64decode(element, validate=True)
    except binascii.Error:
        return element
