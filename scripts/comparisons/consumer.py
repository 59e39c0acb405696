"""One consumer of ONNX graphs, in a process of its own: prints the outputs for each input as JSON.

Its arguments are the consumer, the graph, the graph's input and the folder of inputs that ``consumers`` has written.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def onnxruntime(graph: str, name: str) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return lambda array: session.run(None, {name: array})[0]


def openvino(graph: str, name: str) -> Run:
    import openvino

    # Where the processor is faster in half precision, it would be used.
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda array: np.array(compiled({name: array})[0])


def reference(graph: str, name: str) -> Run:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(graph)
    return lambda array: evaluator.run(None, {name: array})[0]


def opencv(graph: str, name: str) -> Run:
    import cv2

    network = cv2.dnn.readNetFromONNX(graph)

    def run(array: NDArray[np.uint8]) -> NDArray[np.float32]:
        network.setInput(array, name)
        return np.array(network.forward())

    return run


CONSUMERS: dict[str, Callable[[str, str], Run]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "reference": reference,
    "opencv": opencv,
}


def read_inputs(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the inputs, uint8 [1, height, width, 3]."""
    for index, shape in enumerate(json.loads((folder / "shapes.json").read_text())):
        yield np.frombuffer((folder / f"{index}.bin").read_bytes(), np.uint8).reshape(shape)


def main() -> None:
    kind, graph, name, folder = sys.argv[1:]
    run = CONSUMERS[kind](graph, name)
    print(json.dumps([np.asarray(run(array)).ravel().tolist() for array in read_inputs(Path(folder))]))


if __name__ == "__main__":
    main()
