"""PyTriton: a real Triton with a Python backend, two instances of one single-threaded session each."""

import os
import sys
import sysconfig

# Triton's Python backend needs libpython, which not every Python has on the library path.
if "PEER_AGAIN" not in os.environ:
    os.environ |= {"PEER_AGAIN": "1", "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")}
    os.execv(sys.executable, [sys.executable, *sys.argv])

import numpy as np
from handwritten import Classifier
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def make_infer():
    classifier = Classifier(threads=1)

    @batch
    def infer(image: np.ndarray) -> dict:
        pixels = np.stack([classifier.prepare(row[0]) for row in image])
        scores = classifier.score(pixels)
        return {"indices": np.argsort(-scores, axis=1)[:, :5].astype(np.int64)}

    return infer


if __name__ == "__main__":
    port = int(sys.argv[1])
    config = TritonConfig(http_port=port, grpc_port=port + 1, metrics_port=port + 2, http_address="127.0.0.1")
    with Triton(config=config) as triton:
        triton.bind(
            model_name="classify",
            infer_func=[make_infer(), make_infer()],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="indices", dtype=np.int64, shape=(5,))],
            config=ModelConfig(max_batch_size=4),
        )
        triton.serve()
