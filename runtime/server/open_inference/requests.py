"""Inference requests and responses of the Open Inference Protocol, independent of the transport."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.registry import open_payload
from runtime.manifest import Manifest
from runtime.outputs.registry import open_interpreter
from runtime.server.errors import bounded
from runtime.server.jobs import AcceptedInput, InputSource, PreparedInput
from runtime.server.open_inference.tensors import BYTES, TensorSpec, datatype_of
from runtime.server.payloads import input_specs, kind_of, rows_of
from runtime.server.version import MODEL_VERSION

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "parameters", "statistics")
PLATFORM = "onnxruntime_onnx"

_NAME_CHARACTERS = 100


@dataclass(frozen=True, kw_only=True)
class RequestedOutput:
    """An output that a request names; with ``classes`` above 0 it is that many best classes as text."""

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """One request, its tensors as arrays; empty ``outputs`` means all of them."""

    model: str
    version: str = ""
    id: str = ""
    inputs: Mapping[str, NDArray[Any]]
    outputs: tuple[RequestedOutput, ...] = ()
    binary_outputs: bool = False
    timeout_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class InferResponse:
    """One response: its tensors by name, in the order of the request, and the names of those sent as binary data."""

    model: str
    id: str
    outputs: dict[str, NDArray[Any]]
    binary: frozenset[str] = frozenset()
    version: str = MODEL_VERSION


def output_specs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return the tensors that a model returns, for its metadata."""
    return tuple(
        TensorSpec(
            name=output.name,
            datatype=datatype_of(np.dtype(output.dtype)),
            shape=tuple(length if isinstance(length, int) else -1 for length in output.shape),
        )
        for output in manifest.outputs
    )


def model_metadata(name: str, manifest: Manifest) -> dict[str, Any]:
    """Return a model's metadata; a tensor's parameter ``also`` lists other accepted forms."""

    def rows(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
            | ({"parameters": {"also": list(spec.also)}} if spec.also else {})
            for spec in specs
        ]

    return {
        "name": name,
        "versions": [MODEL_VERSION],
        "platform": PLATFORM,
        "inputs": rows(input_specs(manifest)),
        "outputs": rows(output_specs(manifest)),
        "parameters": {"kind": kind_of(manifest), "task": manifest.task.kind},
    }


def model_config(name: str, manifest: Manifest) -> dict[str, Any]:
    """Return a model's configuration in Triton's format, which has its own names for datatypes."""

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
    """Return the name of a datatype in Triton's configurations."""
    return "TYPE_STRING" if datatype == BYTES else f"TYPE_{datatype}"


def to_sources(request: InferRequest, manifest: Manifest) -> list[InputSource]:
    """Return the request's inputs, one per row of its tensors.

    An image model also takes prepared pixels, [batch, height, width, channels], by the name that ``Model.run`` has for
    them. Raises InputError when names, datatypes or shapes are not the model's.
    """
    # Of several inputs, the message that follows names the one at fault.
    name = bounded(next(iter(request.inputs), ""), _NAME_CHARACTERS)
    prefix = "row" if len(manifest.inputs) > 1 else f"input '{name}' row"
    prepared = open_payload(manifest.inputs).prepared_rows(request.inputs)
    if prepared is not None:
        return [PreparedInput(name="", subject=f"{prefix} {row}", value=value) for row, value in enumerate(prepared)]
    rows = rows_of(request.inputs, manifest, request.model)
    return [AcceptedInput(name="", subject=f"{prefix} {row}", value=value) for row, value in enumerate(rows)]


def build_response(
    request: InferRequest, scores: Sequence[Any], manifest: Manifest, labels: Sequence[str]
) -> InferResponse:
    """Return the response to ``request``; ``scores`` has one entry per row, as ``Model.score`` returns them.

    Raises InputError for the classification of an output without classes, and where rows differ in shape.
    """
    arrays = open_interpreter(manifest.task).join(
        scores, names=[output.name for output in manifest.outputs], batched=manifest.batched_outputs
    )
    requested = request.outputs or tuple(RequestedOutput(name=name, binary=request.binary_outputs) for name in arrays)
    outputs: dict[str, NDArray[Any]] = {}
    for output in requested:
        array = arrays[output.name]
        outputs[output.name] = _best_classes(output, array, labels) if output.classes else array
    return InferResponse(
        model=request.model,
        id=request.id,
        outputs=outputs,
        binary=frozenset(output.name for output in requested if output.binary),
    )


def check_outputs(request: InferRequest, manifest: Manifest) -> None:
    """Raise InputError when the request names an output that the model does not have."""
    known = {output.name for output in manifest.outputs}
    for output in request.outputs:
        if output.name not in known:
            expected = ", ".join(f"'{name}'" for name in sorted(known))
            raise InputError(
                f"output '{bounded(output.name, _NAME_CHARACTERS)}': unknown for model '{request.model}': expected "
                f"{expected}. Name one of these."
            )


def _best_classes(output: RequestedOutput, scores: NDArray[Any], labels: Sequence[str]) -> NDArray[Any]:
    """Return the best classes of each row as ``score:index:label``, object [batch, classes]."""
    if scores.ndim != 2 or scores.dtype.kind not in "fiu":
        raise InputError(
            f"output '{output.name}': no classes: expected numbers [batch, classes], got {datatype_of(scores.dtype)} "
            f"{list(scores.shape)}. Omit 'classification'."
        )
    order = np.argsort(-scores, axis=1, kind="stable")[:, : output.classes]
    rows = np.empty(order.shape, dtype=object)
    for row, indices in enumerate(order):
        for column, index in enumerate(indices):
            label = f":{labels[index]}" if index < len(labels) else ""
            rows[row, column] = f"{scores[row, index]:f}:{index}{label}".encode()
    return rows
