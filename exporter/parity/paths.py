"""The three ways an artifact runs, behind one face, each with its inner stages within reach."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image

from exporter.graphs import IMAGE, PROBABILITIES
from exporter.to_onnx import INPUT as NORMALIZED
from exporter.to_torchscript import load_torchscript
from runtime.model import PIXELS, Model
from runtime.session import open_session


@dataclass(frozen=True, kw_only=True)
class Path:
    """One way to run the artifact, as three functions.

    ``prepare`` takes one decoded image, uint8 [height, width, 3], and gives its prepared pixels; ``normalize`` takes
    prepared pixels [n, ...] and gives the network's input; ``classify`` takes prepared pixels [n, ...] and gives the
    scores. ``run`` goes the whole way, for images of one size [n, height, width, 3].
    """

    name: str
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    normalize: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    classify: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class open_paths(AbstractContextManager[Sequence[Path]]):  # noqa: N801  used as a function, like open()
    """The paths through a loaded artifact; inner stages run as cuts of its own graphs, through the runtime's sessions."""

    def __init__(self, model: Model, folder: FilePath, *, torchscript: str) -> None:
        self._model = model
        self._folder = folder
        self._torchscript = torchscript
        self._cuts = TemporaryDirectory(prefix="truecopy-")

    def __enter__(self) -> Sequence[Path]:
        variant = self._model.manifest.variants[0]
        geometry = self._cut(variant.model, IMAGE, PIXELS, onnx.TensorProto.UINT8)
        arithmetic = self._cut(variant.network, PIXELS, NORMALIZED, onnx.TensorProto.FLOAT)
        return (
            _onnx_path(variant.model, self._model, geometry, arithmetic),
            _runtime_path(self._model, arithmetic),
            _torchscript_path(self._torchscript, load_torchscript(self._folder / self._torchscript)),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cuts.cleanup()

    def _cut(self, file: str, source: str, tensor: str, kind: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """Return a function from a graph's input to one of its inner tensors, run as the graph's own nodes."""
        model = onnx.load(self._folder / file, load_external_data=False)
        last = next(row for row, node in enumerate(model.graph.node) if tensor in node.output)
        del model.graph.node[last + 1 :], model.graph.output[:]
        inside = [value for value in model.graph.initializer if value.data_location != onnx.TensorProto.EXTERNAL]
        del model.graph.initializer[:]
        model.graph.initializer.extend(inside)
        model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, kind, None))
        path = FilePath(self._cuts.name) / f"{file}.{tensor}.onnx"
        onnx.save(model, path)
        session = open_session(path, device="cpu")
        return lambda array: session.run({source: array})[tensor]


def _onnx_path(
    name: str,
    model: Model,
    geometry: Callable[[NDArray[Any]], NDArray[Any]],
    arithmetic: Callable[[NDArray[Any]], NDArray[Any]],
) -> Path:
    return Path(
        name=name,
        prepare=lambda image: geometry(image[np.newaxis])[0],
        normalize=arithmetic,
        classify=lambda pixels: model.run({PIXELS: pixels})[PROBABILITIES],
        run=lambda images: model.run({IMAGE: images})[PROBABILITIES],
    )


def _runtime_path(model: Model, arithmetic: Callable[[NDArray[Any]], NDArray[Any]]) -> Path:
    classes = len(model.labels)

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores as predict() serves them: batched, ranked, and put back in the order of the classes."""
        scores = np.full((len(images), classes), np.nan, dtype=np.float32)
        for row, result in enumerate(model.predict(list(images), top_k=classes)):
            for scored in result.top:
                scores[row, scored.index] = scored.probability
        return scores

    return Path(
        name="runtime",
        prepare=lambda image: model.prepare(Image.fromarray(image)),
        normalize=arithmetic,
        classify=lambda pixels: model.run({PIXELS: pixels})[PROBABILITIES],
        run=run,
    )


def _torchscript_path(name: str, module: torch.nn.Module) -> Path:
    def call(function: Any) -> Callable[[NDArray[Any]], NDArray[Any]]:
        def run(array: NDArray[Any]) -> NDArray[Any]:
            with torch.no_grad():
                result: NDArray[Any] = function(torch.from_numpy(np.array(array))).numpy()
                return result

        return run

    prepare = call(module.prepare)
    return Path(
        name=name,
        prepare=lambda image: prepare(image[np.newaxis])[0],
        normalize=call(module.normalize),
        classify=call(module.classify),
        run=call(module),
    )
