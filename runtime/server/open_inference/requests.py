"""What an inference request of the Open Inference Protocol means for a model, whichever transport brought it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.image.decoder import PIXELS
from runtime.manifest import ImageInput, Manifest, Raw
from runtime.server.open_inference.tensors import BYTES, TensorSpec, datatype_of
from runtime.server.payloads import input_specs, rows_of
from runtime.server.version import VERSION

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "parameters", "statistics")
PLATFORM = "onnxruntime_onnx"

# What the manifest calls the first dimension of an output that has a row for each input.
BATCH = "batch"


@dataclass(frozen=True, kw_only=True)
class RequestedOutput:
    """An output that a request asks for; ``classes`` above 0 asks for that many best classes as text."""

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """One request, its tensors as arrays; no ``outputs`` means all of them."""

    model: str
    version: str = ""
    id: str = ""
    inputs: Mapping[str, NDArray[Any]]
    outputs: tuple[RequestedOutput, ...] = ()
    binary_outputs: bool = False
    timeout_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class InferResponse:
    """One answer: its tensors by name, in the order asked for, and which of them go out as binary data."""

    model: str
    id: str
    outputs: dict[str, NDArray[Any]]
    binary: frozenset[str] = frozenset()
    version: str = VERSION


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The inputs of a request, one a row of the answer; ``prepared`` says that they go to the network as they are."""

    rows: Sequence[Any]
    prepared: bool


def output_specs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return the outputs that a model's metadata lists."""
    return tuple(
        TensorSpec(
            name=output.name,
            datatype=datatype_of(np.dtype(output.dtype)),
            shape=tuple(length if isinstance(length, int) else -1 for length in output.shape),
        )
        for output in manifest.outputs
    )


def model_config(name: str, manifest: Manifest) -> dict[str, Any]:
    """Return a model's configuration as Triton's clients read it; its datatypes have names of their own there."""

    def tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {
                "name": spec.name,
                "data_type": config_datatype(spec.datatype),
                "dims": list(spec.shape),
            }
            for spec in specs
        ]

    return {
        "name": name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": 0,
        "version_policy": {"latest": {"num_versions": 1}},
        "input": tensors(input_specs(manifest)),
        "output": tensors(output_specs(manifest)),
    }


def config_datatype(datatype: str) -> str:
    """Return what Triton's configurations call a datatype of the protocol."""
    return "TYPE_STRING" if datatype == BYTES else f"TYPE_{datatype}"


def sources_of(request: InferRequest, manifest: Manifest) -> Sources:
    """Return the request's inputs, one a row. Raises InputError when names, datatypes or shapes are not the model's.

    An image model also takes prepared pixels, [batch, height, width, channels], by the name that ``Model.run``
    has for them.
    """
    first = manifest.inputs[0]
    if request.inputs.keys() == {PIXELS} and isinstance(first, ImageInput) and first.name != PIXELS:
        prepared = first.preprocessing
        array = request.inputs[PIXELS]
        wanted = (prepared.height, prepared.width, prepared.channels)
        fits = array.ndim == 4 and all(
            length == expected or (expected is None and length > 0)
            for length, expected in zip(array.shape[1:], wanted, strict=True)
        )
        if array.dtype != first.dtype or not fits or not len(array):
            shape = [-1 if length is None else length for length in (None, *wanted)]
            raise InputError(
                f"input '{PIXELS}': wrong array: expected {datatype_of(np.dtype(first.dtype))} {shape}, "
                f"got {datatype_of(array.dtype)} {list(array.shape)}. Convert it."
            )
        return Sources(rows=list(array), prepared=True)
    return Sources(rows=rows_of(request.inputs, manifest, request.model), prepared=False)


def build_response(
    request: InferRequest, scores: Sequence[Any], manifest: Manifest, labels: Sequence[str]
) -> InferResponse:
    """Return the answer to ``request``: its rows of scores, as the outputs it asked for."""
    outputs = _outputs(scores, manifest)
    wanted = request.outputs or tuple(RequestedOutput(name=name, binary=request.binary_outputs) for name in outputs)
    chosen: dict[str, NDArray[Any]] = {}
    for output in wanted:
        array = outputs[output.name]
        chosen[output.name] = _classes(output, array, labels) if output.classes else array
    return InferResponse(
        model=request.model,
        id=request.id,
        outputs=chosen,
        binary=frozenset(output.name for output in wanted if output.binary),
    )


def _outputs(scores: Sequence[Any], manifest: Manifest) -> dict[str, NDArray[Any]]:
    """Return the graph's outputs for all rows, by name. Raises InputError where rows cannot share a tensor."""
    if not isinstance(manifest.task, Raw):
        return {manifest.outputs[0].name: np.stack(scores)}
    outputs = {}
    for output in manifest.outputs:
        rows = [one[output.name] for one in scores]
        if not output.batched:
            outputs[output.name] = rows[0]
            continue
        if len({row.shape for row in rows}) > 1:
            raise InputError(
                f"output '{output.name}': rows of several shapes: expected one, got "
                f"{sorted({row.shape for row in rows})}. Send these inputs in requests of their own."
            )
        outputs[output.name] = np.stack(rows)
    return outputs


def check_outputs(request: InferRequest, manifest: Manifest) -> None:
    """Raise InputError when the request asks for an output that the model has not; before any work is done."""
    known = {output.name for output in manifest.outputs}
    for output in request.outputs:
        if output.name not in known:
            expected = ", ".join(f"'{name}'" for name in sorted(known))
            raise InputError(
                f"output '{output.name}': unexpected for model '{request.model}': expected {expected}. Rename it."
            )


def _classes(wanted: RequestedOutput, scores: NDArray[Any], labels: Sequence[str]) -> NDArray[Any]:
    """Return the best classes of each row as ``score:index:label``, object [batch, classes]."""
    if scores.ndim != 2 or scores.dtype.kind not in "fiu":
        raise InputError(
            f"output '{wanted.name}': no classes: expected numbers [batch, classes], got {datatype_of(scores.dtype)} "
            f"{list(scores.shape)}. Leave 'classification' out."
        )
    order = np.argsort(-scores, axis=1, kind="stable")[:, : wanted.classes]
    rows = np.empty(order.shape, dtype=object)
    for row, indices in enumerate(order):
        for column, index in enumerate(indices):
            label = f":{labels[index]}" if index < len(labels) else ""
            rows[row, column] = f"{scores[row, index]:f}:{index}{label}".encode()
    return rows
