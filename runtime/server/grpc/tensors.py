"""gRPC messages of the Open Inference Protocol, to requests and from responses."""

from typing import Any

import numpy as np

from runtime.errors import InputError
from runtime.server.errors import bounded
from runtime.server.grpc.messages import message_class
from runtime.server.numbers import whole_number
from runtime.server.open_inference.claims import TensorClaims
from runtime.server.open_inference.requests import InferRequest, InferResponse, RequestedOutput
from runtime.server.open_inference.tensors import (
    BYTES,
    DTYPES,
    amount_error,
    check_datatype,
    count_elements,
    datatype_of,
    from_bytes,
    from_values,
    to_bytes,
    to_numbers,
)

_NAME_CHARACTERS = 100

# The field of InferTensorContents for each datatype.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


def request_from_message(message: Any, claims: TensorClaims) -> InferRequest:
    """Return the request in a ModelInferRequest, its tensors raw or typed.

    Raises InputError for a mixture, TooLargeError for claims that one request may not make.
    """
    claims.check_count(len(message.inputs))
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InputError(
            f"raw_input_contents: wrong number: expected {len(message.inputs)}, one per input, got {len(raw)}. "
            "Send all inputs raw, or none."
        )
    inputs = {}
    for index, tensor in enumerate(message.inputs):
        subject = f"input '{bounded(tensor.name, _NAME_CHARACTERS)}'"
        if tensor.name in inputs:
            raise InputError(f"{subject}: duplicate name. Send each input once.")
        most_elements = len(raw[index]) if raw else tensor.contents.ByteSize()
        claims.check_tensor(tensor.datatype, tensor.shape, subject, most_elements=most_elements, shared=bool(raw))
        if raw:
            if tensor.HasField("contents"):
                raise InputError(f"{subject}: both raw and typed contents. Omit one of them.")
            inputs[tensor.name] = from_bytes(memoryview(raw[index]), tensor.datatype, tensor.shape, subject)
        else:
            inputs[tensor.name] = _from_contents(tensor, subject)
    return InferRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        inputs=inputs,
        outputs=tuple(
            RequestedOutput(name=output.name, classes=_whole_parameter(output.parameters, "classification"))
            for output in message.outputs
        ),
        timeout_s=_whole_parameter(message.parameters, "timeout") / 1e6,
    )


def message_from_response(response: InferResponse, *, raw: bool) -> Any:
    """Return the ModelInferResponse of a response; its tensors are raw where the request's were.

    They are also all raw where one has a datatype without typed contents: the protocol has one raw element per output,
    or none.
    """
    raw = raw or any(datatype_of(array.dtype) not in _CONTENTS for array in response.outputs.values())
    message = message_class("ModelInferResponse")(
        model_name=response.model, model_version=response.version, id=response.id
    )
    for name, array in response.outputs.items():
        datatype = datatype_of(array.dtype)
        tensor = message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            message.raw_output_contents.append(to_bytes(array))
        else:
            getattr(tensor.contents, _CONTENTS[datatype]).extend(array.ravel().tolist())
    return message


def _from_contents(tensor: Any, subject: str) -> np.ndarray[Any, Any]:
    check_datatype(tensor.datatype, subject)
    if tensor.datatype not in _CONTENTS:
        raise InputError(f"{subject}: {tensor.datatype} has no typed contents. Send it in raw_input_contents.")
    field = _CONTENTS[tensor.datatype]
    others = [descriptor.name for descriptor, _ in tensor.contents.ListFields() if descriptor.name != field]
    if others:
        raise InputError(
            f"{subject}: wrong contents for {tensor.datatype}: expected '{field}', got '{others[0]}'. Use '{field}'."
        )
    values, shape = getattr(tensor.contents, field), tuple(tensor.shape)
    count = count_elements(shape, subject)
    if tensor.datatype == BYTES:
        return from_values(list(values), BYTES, shape, subject, is_base64=False, count=count)
    if len(values) != count:
        raise amount_error(len(values), count, shape, subject)
    return to_numbers(values, DTYPES[tensor.datatype], subject, tensor.datatype).reshape(shape)


def _whole_parameter(parameters: Any, name: str) -> int:
    """Return an integer parameter of a message; 0 where there is none."""
    if name not in parameters:
        return 0
    value = parameters[name]
    choice = value.WhichOneof("parameter_choice")
    return whole_number(getattr(value, choice) if choice else None, f"parameter '{name}'")
