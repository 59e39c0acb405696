"""MLServer with a custom runtime, on a pool of two processes; it writes its settings into a temporary folder."""

import json
import os
import sys
import tempfile
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Classify(MLModel):
    async def load(self) -> bool:
        from handwritten import Classifier

        self._classifier = Classifier(threads=1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        import base64

        import numpy as np

        body = base64.b64decode(payload.inputs[0].data[0])
        scores = self._classifier.score(self._classifier.prepare(body)[None])
        order = np.argsort(-scores[0])[None, :5]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("indices", order)])


if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp())
    port = int(sys.argv[1])
    settings = {
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 2,
        "host": "127.0.0.1",
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "classify", "implementation": "mlserver_server.Classify"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.execv(str(Path(sys.executable).parent / "mlserver"), ["mlserver", "start", str(folder)])
