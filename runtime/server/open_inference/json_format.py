"""HTTP bodies of the Open Inference Protocol: JSON, and JSON followed by binary tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.json_size import json_bytes, json_reason
from runtime.server.errors import bounded
from runtime.server.numbers import whole_number
from runtime.server.open_inference.claims import TensorClaims
from runtime.server.open_inference.json_tensors import from_json
from runtime.server.open_inference.long_arrays import ShortenedJson, take_long_arrays
from runtime.server.open_inference.requests import InferRequest, InferResponse, RequestedOutput
from runtime.server.open_inference.tensors import (
    datatype_of,
    from_bytes,
    tensor_to_json,
    to_bytes,
)

T = TypeVar("T")


# Shapes and parameters are read when the number of tensors is known, and only short ones: each has a few numbers.
class _InputBody(msgspec.Struct):
    name: str
    datatype: str
    shape: msgspec.Raw
    data: msgspec.Raw = msgspec.Raw()
    parameters: msgspec.Raw = msgspec.Raw()


class _OutputBody(msgspec.Struct):
    name: str
    parameters: msgspec.Raw = msgspec.Raw()


class _InferRequestBody(msgspec.Struct):
    inputs: list[_InputBody]
    id: str | None = None
    outputs: list[_OutputBody] | None = None
    parameters: msgspec.Raw = msgspec.Raw()


_LONGEST_SHAPE_BYTES = 1024
_LONGEST_PARAMETERS_BYTES = 64 * 1024
_LONGEST_ID = 1024
_NAME_CHARACTERS = 100
_MOST_OUTPUTS = 1024

_decoder = msgspec.json.Decoder(_InferRequestBody)
_shape_decoder = msgspec.json.Decoder(list[int])
_parameters_decoder = msgspec.json.Decoder(dict[str, Any] | None)
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, kw_only=True)
class BodyFormat:
    """How one request's body is read.

    ``header_length`` is the Inference-Header-Content-Length: the length of the JSON part, None where the whole body is
    JSON, and 0 for a raw request, whose body is the one element of ``raw_input``. Strings of ``base64_inputs`` carry
    bytes that are no text.
    """

    header_length: int | None
    base64_inputs: frozenset[str]
    raw_input: str


def request_from_body(
    body: bytes, body_format: BodyFormat, claims: TensorClaims, *, model: str, version: str
) -> InferRequest:
    """Return the request that an HTTP body holds.

    Raises InputError for anything else, TooLargeError for claims that one request may not make.
    """
    header_length = body_format.header_length
    if header_length == 0:
        element = np.empty(1, dtype=object)
        element[0] = body
        return InferRequest(model=model, version=version, inputs={body_format.raw_input: element}, binary_outputs=True)
    if header_length is not None and not 0 < header_length <= len(body):
        raise InputError(
            f"Inference-Header-Content-Length: out of range: expected 0 to {len(body)}, got {header_length}. "
            "Send the length of the JSON part."
        )
    view = memoryview(body)
    shortened = take_long_arrays(body, len(view[:header_length]))
    claims.reserve(json_bytes(shortened.text))
    parsed = _decode(_decoder, shortened.text, "body: not an inference request")
    claims.check_count(len(parsed.inputs))
    outputs = parsed.outputs or []
    if len(outputs) > _MOST_OUTPUTS:
        raise InputError(
            f"outputs: too many: expected at most {_MOST_OUTPUTS}, got {len(outputs)}. Name each output once."
        )
    if len(parsed.id or "") > _LONGEST_ID:
        raise InputError(
            f"id: too long: expected at most {_LONGEST_ID} characters, got {len(parsed.id or '')}. Use a shorter one."
        )
    binary_data = view[len(body) if header_length is None else header_length :]
    parameters = _read_parameters(parsed.parameters, "request")
    binary_outputs = _flag(parameters, "binary_data_output", "request")
    return InferRequest(
        model=model,
        version=version,
        id=parsed.id or "",
        inputs=_read_tensors(parsed.inputs, shortened, binary_data, body_format.base64_inputs, claims),
        outputs=tuple(_requested_output(output, binary_outputs) for output in outputs),
        binary_outputs=binary_outputs,
        timeout_s=(_whole_number(parameters, "timeout", "request") or 0) / 1e6,
    )


def _read_tensors(
    tensors: Sequence[_InputBody],
    shortened: ShortenedJson,
    binary_data: memoryview,
    base64_inputs: frozenset[str],
    claims: TensorClaims,
) -> dict[str, NDArray[Any]]:
    """Return the request's tensors by name; those without JSON data share ``binary_data``, in their order."""
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for tensor in tensors:
        subject = f"input '{bounded(tensor.name, _NAME_CHARACTERS)}'"
        if tensor.name in arrays:
            raise InputError(f"{subject}: duplicate name. Send each input once.")
        shape = _read_shape(tensor.shape, subject)
        size = _whole_number(_read_parameters(tensor.parameters, subject), "binary_data_size", subject)
        if size is None and not tensor.data:
            raise InputError(f"{subject}: no data. Send 'data' or 'binary_data_size'.")
        data = shortened.array(memoryview(tensor.data))
        most_elements = len(data) if size is None else size
        claims.check_tensor(tensor.datatype, shape, subject, most_elements=most_elements, shared=size is not None)
        if size is None:
            is_base64 = tensor.name in base64_inputs
            arrays[tensor.name] = from_json(data, tensor.datatype, shape, subject, is_base64=is_base64)
            continue
        arrays[tensor.name] = _read_binary(tensor, shape, binary_data[start:], size, subject)
        start += size
    if start != len(binary_data):
        raise InputError(
            f"body: too long: expected {start} bytes of binary data, got {len(binary_data)}. Send every input's "
            "'binary_data_size'."
        )
    return arrays


def _read_binary(tensor: _InputBody, shape: Sequence[int], data: memoryview, size: int, subject: str) -> NDArray[Any]:
    """Return the tensor in the first ``size`` bytes of the binary data that is left."""
    if tensor.data:
        raise InputError(f"{subject}: both 'data' and 'binary_data_size'. Omit one of them.")
    if size > len(data):
        raise InputError(
            f"{subject}: cut short: expected {size} bytes of binary data, got {len(data)} in the body. Send all of it, "
            "after the JSON part."
        )
    return from_bytes(data[:size], tensor.datatype, shape, subject)


def _read_shape(raw: msgspec.Raw, subject: str) -> list[int]:
    if len(memoryview(raw)) > _LONGEST_SHAPE_BYTES:
        raise InputError(f"{subject}: wrong shape: too many lengths. Send the array's own shape.")
    return _decode(_shape_decoder, raw, f"{subject}: 'shape' is no list of numbers")


def _read_parameters(raw: msgspec.Raw, subject: str) -> dict[str, Any]:
    if not raw:
        return {}
    if len(memoryview(raw)) > _LONGEST_PARAMETERS_BYTES:
        raise InputError(
            f"{subject}: 'parameters' are too long: expected at most {_LONGEST_PARAMETERS_BYTES} bytes. Omit some."
        )
    return _decode(_parameters_decoder, raw, f"{subject}: 'parameters' are no object") or {}


def _decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw, subject: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"{subject}: {json_reason(error, bytes(data))}. Send the protocol's JSON.") from None


def response_to_body(response: InferResponse) -> tuple[bytes, int | None]:
    """Return the HTTP body of a response, and the length of its JSON part where binary tensors follow it."""
    outputs: list[dict[str, Any]] = []
    binary_data = []
    for name, array in response.outputs.items():
        entry: dict[str, Any] = {"name": name, "datatype": datatype_of(array.dtype), "shape": array.shape}
        if name in response.binary:
            data = to_bytes(array)
            entry["parameters"] = {"binary_data_size": len(data)}
            binary_data.append(data)
        else:
            entry["data"] = tensor_to_json(array)
        outputs.append(entry)
    request_id = {"id": response.id} if response.id else {}
    header = _encoder.encode(
        {**request_id, "model_name": response.model, "model_version": response.version, "outputs": outputs}
    )
    return (b"".join([header, *binary_data]), len(header)) if response.binary else (header, None)


def _requested_output(output: _OutputBody, binary_by_default: bool) -> RequestedOutput:
    subject = f"output '{bounded(output.name, _NAME_CHARACTERS)}'"
    parameters = _read_parameters(output.parameters, subject)
    return RequestedOutput(
        name=output.name,
        binary=_flag(parameters, "binary_data", subject) if "binary_data" in parameters else binary_by_default,
        classes=_whole_number(parameters, "classification", subject) or 0,
    )


def _flag(parameters: dict[str, Any], name: str, subject: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InputError(
            f"{subject}: parameter '{name}': expected true or false, got {type(value).__name__}. Send a JSON boolean."
        )
    return value


def _whole_number(parameters: dict[str, Any], name: str, subject: str) -> int | None:
    value = parameters.get(name)
    return None if value is None else whole_number(value, f"{subject}: parameter '{name}'")
