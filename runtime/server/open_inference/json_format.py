"""HTTP bodies of the Open Inference Protocol: JSON, and JSON followed by binary tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.server.numbers import whole_number
from runtime.server.open_inference.requests import InferRequest, InferResponse, RequestedOutput
from runtime.server.open_inference.tensors import (
    datatype_of,
    from_bytes,
    from_json,
    tensor_to_json,
    to_bytes,
)


class _InputBody(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] | None = None


class _OutputBody(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _InferRequestBody(msgspec.Struct):
    inputs: list[_InputBody]
    id: str | None = None
    outputs: list[_OutputBody] | None = None
    parameters: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(_InferRequestBody)
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


def request_from_body(body: bytes, body_format: BodyFormat, *, model: str, version: str) -> InferRequest:
    """Return the request that an HTTP body holds; raises InputError for anything else."""
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
    try:
        parsed = _decoder.decode(view[:header_length])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(
            f"body: not an inference request: {str(error).rstrip('.')}. Send the protocol's JSON."
        ) from None
    binary_data = view[len(body) if header_length is None else header_length :]
    parameters = parsed.parameters or {}
    binary_outputs = _flag(parameters, "binary_data_output", "request")
    return InferRequest(
        model=model,
        version=version,
        id=parsed.id or "",
        inputs=_read_tensors(parsed.inputs, binary_data, body_format.base64_inputs),
        outputs=tuple(_requested_output(output, binary_outputs) for output in parsed.outputs or ()),
        binary_outputs=binary_outputs,
        timeout_s=(_whole_number(parameters, "timeout", "request") or 0) / 1e6,
    )


def _read_tensors(
    tensors: Sequence[_InputBody], binary_data: memoryview, base64_inputs: frozenset[str]
) -> dict[str, NDArray[Any]]:
    """Return the request's tensors by name; those without JSON data share ``binary_data``, in their order."""
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for tensor in tensors:
        subject = f"input '{tensor.name}'"
        if tensor.name in arrays:
            raise InputError(f"{subject}: duplicate name. Send each input once.")
        size = _whole_number(tensor.parameters, "binary_data_size", subject)
        data = bytes(tensor.data)
        if size is None:
            if not data:
                raise InputError(f"{subject}: no data. Send 'data' or 'binary_data_size'.")
            is_base64 = tensor.name in base64_inputs
            arrays[tensor.name] = from_json(data, tensor.datatype, tensor.shape, subject, is_base64=is_base64)
            continue
        if data:
            raise InputError(f"{subject}: both 'data' and 'binary_data_size'. Omit one of them.")
        if start + size > len(binary_data):
            raise InputError(
                f"{subject}: cut short: expected {size} bytes of binary data, got {len(binary_data) - start} in the "
                "body. Send all of it, after the JSON part."
            )
        arrays[tensor.name] = from_bytes(binary_data[start : start + size], tensor.datatype, tensor.shape, subject)
        start += size
    if start != len(binary_data):
        raise InputError(
            f"body: too long: expected {start} bytes of binary data, got {len(binary_data)}. Send every input's "
            "'binary_data_size'."
        )
    return arrays


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
    subject = f"output '{output.name}'"
    parameters = output.parameters or {}
    return RequestedOutput(
        name=output.name,
        binary=_flag(parameters, "binary_data", subject) if "binary_data" in parameters else binary_by_default,
        classes=_whole_number(parameters, "classification", subject) or 0,
    )


def _flag(parameters: dict[str, Any], name: str, subject: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InputError(
            f"{subject}: parameter '{name}': expected true or false, got {value!r:.40}. Send a JSON boolean."
        )
    return value


def _whole_number(parameters: dict[str, Any] | None, name: str, subject: str) -> int | None:
    value = (parameters or {}).get(name)
    return None if value is None else whole_number(value, f"{subject}: parameter '{name}'")
