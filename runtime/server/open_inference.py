"""What an inference request of the Open Inference Protocol means for a model, whichever transport brought it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.manifest import Manifest
from runtime.model import PIXELS
from runtime.server.loaded import VERSION
from runtime.server.tensors import BYTES, datatype_of

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "parameters", "statistics")
PLATFORM = "onnxruntime_onnx"


@dataclass(frozen=True, kw_only=True)
class WantedOutput:
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
    outputs: tuple[WantedOutput, ...] = ()
    binary_outputs: bool = False
    timeout_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class InferAnswer:
    """One answer: its tensors by name, in the order asked for, and which of them go out as binary data."""

    model: str
    id: str
    outputs: dict[str, NDArray[Any]]
    binary: frozenset[str] = frozenset()
    version: str = VERSION


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A tensor in a model's metadata: -1 is a length that a request chooses; ``also`` are other forms taken."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    also: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The inputs of a request, one a row of the answer; ``prepared`` says that they go to the network as they are."""

    rows: Sequence[Any]
    prepared: bool


def input_specs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return the inputs that a model's metadata lists."""
    spec = manifest.inputs[0]
    return (
        TensorSpec(name=spec.name, datatype="UINT8", shape=(-1, -1, -1, 3), also=(f"{BYTES} [-1]", f"{BYTES} [-1,1]")),
    )


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


def takes_bytes(manifest: Manifest) -> bool:
    """Whether a raw body alone is a request: the model's one input may be encoded bytes."""
    return len(manifest.inputs) == 1


def sources_of(request: InferRequest, manifest: Manifest) -> Sources:
    """Return the request's inputs, one a row. Raises InputError when names, datatypes or shapes are not the model's.

    An image comes as encoded BYTES [batch] or [batch, 1], or as UINT8 [batch, height, width, 3]; prepared pixels, by
    the name that ``Model.run`` has for them, as UINT8 [batch, height, width, channels].
    """
    name = manifest.inputs[0].name
    unknown = sorted(request.inputs.keys() - {name, PIXELS})
    if unknown:
        raise InputError(f"input '{unknown[0]}': unexpected for model '{request.model}': expected '{name}'. Rename it.")
    if len(request.inputs) != 1:
        raise InputError(
            f"inputs: wrong number for model '{request.model}': expected 1 ('{name}'), got {len(request.inputs)}. "
            "Send that one."
        )
    given, array = next(iter(request.inputs.items()))
    if given == PIXELS:
        wanted = (manifest.preprocessing.height, manifest.preprocessing.width, manifest.preprocessing.channels)
        _check_array(given, array, np.dtype(np.uint8), (-1, *wanted))
        return Sources(rows=list(array), prepared=True)
    if array.dtype == object:
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise InputError(
                f"input '{name}': unexpected shape for model '{request.model}': expected BYTES [-1] or [-1, 1], one "
                f"encoded image each, got {list(array.shape)}. Reshape it."
            )
        rows = list(array)
    else:
        _check_array(name, array, np.dtype(np.uint8), (-1, -1, -1, 3))
        rows = list(array)
    if not rows:
        raise InputError(f"input '{name}': empty: expected at least one row, got shape {list(array.shape)}. Send one.")
    return Sources(rows=rows, prepared=False)


def answer_for(
    request: InferRequest, scores: Sequence[NDArray[Any]], manifest: Manifest, labels: Sequence[str]
) -> InferAnswer:
    """Return the answer to ``request``: its rows of scores, as the outputs it asked for."""
    outputs = {manifest.outputs[0].name: np.stack(scores)}
    wanted = request.outputs or tuple(WantedOutput(name=name, binary=request.binary_outputs) for name in outputs)
    chosen: dict[str, NDArray[Any]] = {}
    for output in wanted:
        array = outputs[output.name]
        chosen[output.name] = _classes(array, output.classes, labels) if output.classes else array
    return InferAnswer(
        model=request.model,
        id=request.id,
        outputs=chosen,
        binary=frozenset(output.name for output in wanted if output.binary),
    )


def check_outputs(request: InferRequest, manifest: Manifest) -> None:
    """Raise InputError when the request asks for an output that the model has not; before any work is done."""
    known = {output.name for output in manifest.outputs}
    for output in request.outputs:
        if output.name not in known:
            expected = ", ".join(f"'{name}'" for name in sorted(known))
            raise InputError(
                f"output '{output.name}': unexpected for model '{request.model}': expected {expected}. Rename it."
            )


def _check_array(name: str, array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype:
        raise InputError(
            f"input '{name}': wrong datatype: expected {datatype_of(dtype)}, or BYTES of encoded images, "
            f"got {datatype_of(array.dtype)}. Convert it."
        )
    fits = array.ndim == len(shape) and all(
        actual > 0 if wanted == -1 else actual == wanted for actual, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"input '{name}': unexpected shape: expected {list(shape)}, got {list(array.shape)}. Reshape it."
        )


def _classes(scores: NDArray[Any], count: int, labels: Sequence[str]) -> NDArray[Any]:
    """Return the best ``count`` classes of each row as ``score:index:label``, object [batch, count]."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    rows = np.empty(order.shape, dtype=object)
    for row, indices in enumerate(order):
        for column, index in enumerate(indices):
            rows[row, column] = f"{scores[row, index]:f}:{index}:{labels[index]}".encode()
    return rows
