"""The Open Inference Protocol's HTTP bodies: JSON, and JSON followed by binary tensors."""

from typing import Any

import msgspec
import numpy as np

from runtime.errors import InputError
from runtime.server.open_inference.requests import InferRequest, InferResponse, RequestedOutput
from runtime.server.open_inference.tensors import (
    TensorSpec,
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


def request_from_body(
    body: bytes, header_length: int | None, *, model: str, version: str, base64_inputs: frozenset[str], raw_input: str
) -> InferRequest:
    """Return the request that an HTTP body holds.

    ``header_length`` is the Inference-Header-Content-Length: the JSON's part of the body, None where all of it is
    JSON, and 0 for a raw request, whose whole body is the one element of ``raw_input``. Strings of ``base64_inputs``
    carry bytes that are no text. Raises InputError for anything else.
    """
    if header_length == 0:
        element = np.empty(1, dtype=object)
        element[0] = body
        return InferRequest(model=model, version=version, inputs={raw_input: element}, binary_outputs=True)
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
    position = len(body) if header_length is None else header_length
    inputs = {}
    for tensor in parsed.inputs:
        subject = f"input '{tensor.name}'"
        if tensor.name in inputs:
            raise InputError(f"{subject}: given twice: expected one of each name. Send it once.")
        size = _whole_number(tensor.parameters, "binary_data_size", subject)
        if size is None:
            if not bytes(tensor.data):
                raise InputError(f"{subject}: no data: expected 'data' or 'binary_data_size', got neither. Send one.")
            inputs[tensor.name] = from_json(
                bytes(tensor.data),
                tensor.datatype,
                tensor.shape,
                subject,
                is_base64=tensor.name in base64_inputs,
            )
            continue
        if bytes(tensor.data):
            raise InputError(f"{subject}: both 'data' and 'binary_data_size': expected one of them. Drop the other.")
        if position + size > len(body):
            raise InputError(
                f"{subject}: cut short: expected {size} bytes of binary data, got {len(body) - position} in the body. "
                "Send all of it, after the JSON part."
            )
        inputs[tensor.name] = from_bytes(view[position : position + size], tensor.datatype, tensor.shape, subject)
        position += size
    if position != len(body):
        raise InputError(
            f"body: too long: expected {position} bytes from its header, got {len(body)}. Give every input's "
            "'binary_data_size'."
        )
    parameters = parsed.parameters or {}
    binary = _flag(parameters, "binary_data_output", "request")
    return InferRequest(
        model=model,
        version=version,
        id=parsed.id or "",
        inputs=inputs,
        outputs=tuple(_wanted(output, binary) for output in parsed.outputs or ()),
        binary_outputs=binary,
        timeout_s=(_whole_number(parameters, "timeout", "request") or 0) / 1e6,
    )


def response_to_body(answer: InferResponse) -> tuple[bytes, int | None]:
    """Return the HTTP body of an answer, and the length of its JSON part where binary tensors follow it."""
    described: list[dict[str, Any]] = []
    tail = []
    for name, array in answer.outputs.items():
        entry: dict[str, Any] = {"name": name, "datatype": datatype_of(array.dtype), "shape": array.shape}
        if name in answer.binary:
            data = to_bytes(array)
            entry["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            entry["data"] = tensor_to_json(array)
        described.append(entry)
    named = {"id": answer.id} if answer.id else {}
    header = _encoder.encode(
        {**named, "model_name": answer.model, "model_version": answer.version, "outputs": described}
    )
    return (b"".join([header, *tail]), len(header)) if answer.binary else (header, None)


def spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    """Return a tensor of a model's metadata; the forms that are taken besides are a parameter."""
    row: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
    return {**row, "parameters": {"also": list(spec.also)}} if spec.also else row


def _wanted(output: _OutputBody, binary_by_default: bool) -> RequestedOutput:
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
        raise InputError(f"{subject}: parameter '{name}': expected true or false, got {value!r:.40}. Correct it.")
    return value


def _whole_number(parameters: dict[str, Any] | None, name: str, subject: str) -> int | None:
    value = (parameters or {}).get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"{subject}: parameter '{name}': expected a whole number, got {value!r:.40}. Correct it.")
    return value
