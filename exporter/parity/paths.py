"""The three ways an artifact runs, behind one face, each with its inner stages within reach."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image

from exporter.graphs import IMAGE, PROBABILITIES
from exporter.to_onnx import INPUT as NORMALIZED
from exporter.to_torchscript import load_torchscript
from runtime.model import PIXELS, Model
from runtime.results import Prediction
from runtime.session import open_session

_Function: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ServedPath:
    """One way to run the artifact, as four functions.

    ``prepare`` takes one decoded image, uint8 [height, width, 3], and gives its prepared pixels; ``normalize`` takes
    prepared pixels [n, ...] and gives the network's input; ``classify`` takes prepared pixels [n, ...] and gives the
    scores. ``run`` goes the whole way, for images of one size [n, height, width, 3].
    """

    name: str
    prepare: _Function
    normalize: _Function
    classify: _Function
    run: _Function


@contextmanager
def open_paths(model: Model, folder: Path, *, torchscript: str) -> Iterator[Sequence[ServedPath]]:
    """Give the paths through a loaded artifact; inner stages run as cuts of its own graphs, in the runtime."""
    variant = model.manifest.variants[0]
    with TemporaryDirectory(prefix="truecopy-") as scratch:
        geometry = _cut(folder / variant.model, IMAGE, PIXELS, onnx.TensorProto.UINT8, Path(scratch))
        arithmetic = _cut(folder / variant.network, PIXELS, NORMALIZED, onnx.TensorProto.FLOAT, Path(scratch))
        yield (
            _onnx_path(variant.model, model, geometry, arithmetic),
            _runtime_path(model, arithmetic),
            _torchscript_path(torchscript, load_torchscript(folder / torchscript)),
        )


def _cut(graph: Path, source: str, tensor: str, kind: int, scratch: Path) -> _Function:
    """Return a function from a graph's input to one of its inner tensors, run as the graph's own nodes."""
    model = onnx.load(graph, load_external_data=False)
    last = next(row for row, node in enumerate(model.graph.node) if tensor in node.output)
    del model.graph.node[last + 1 :], model.graph.output[:]
    inside = [value for value in model.graph.initializer if value.data_location != onnx.TensorProto.EXTERNAL]
    del model.graph.initializer[:]
    model.graph.initializer.extend(inside)
    model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, kind, None))
    path = scratch / f"{tensor}.onnx"
    onnx.save(model, path)
    session = open_session(path, device="cpu")
    return lambda array: session.run({source: array})[tensor]


def _onnx_path(
    name: str,
    model: Model,
    geometry: _Function,
    arithmetic: _Function,
) -> ServedPath:
    return ServedPath(
        name=name,
        prepare=lambda image: geometry(image[np.newaxis])[0],
        normalize=arithmetic,
        classify=lambda pixels: model.run({PIXELS: pixels})[PROBABILITIES],
        run=lambda images: model.run({IMAGE: images})[PROBABILITIES],
    )


def _runtime_path(model: Model, arithmetic: _Function) -> ServedPath:
    classes = len(model.labels)

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores as predict() serves them: batched, ranked, and put back in the order of the classes."""
        scores = np.full((len(images), classes), np.nan, dtype=np.float32)
        for row, result in enumerate(model.predict(list(images), top_k=classes)):
            if isinstance(result, Prediction):
                for scored in result.top:
                    scores[row, scored.index] = scored.probability
        return scores

    return ServedPath(
        name="runtime",
        prepare=lambda image: model.prepare(Image.fromarray(image)),
        normalize=arithmetic,
        classify=lambda pixels: model.run({PIXELS: pixels})[PROBABILITIES],
        run=run,
    )


def _torchscript_path(name: str, module: torch.nn.Module) -> ServedPath:
    def call(function: Any) -> _Function:
        def run(array: NDArray[Any]) -> NDArray[Any]:
            with torch.no_grad():
                result: NDArray[Any] = function(torch.from_numpy(np.array(array))).numpy()
                return result

        return run

    prepare = call(module.prepare)
    return ServedPath(
        name=name,
        prepare=lambda image: prepare(image[np.newaxis])[0],
        normalize=call(module.normalize),
        classify=call(module.classify),
        run=call(module),
    )
