"""The gRPC front end: the Open Inference Protocol, health and reflection. The work is the service's."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import numpy as np
from google.protobuf import json_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from runtime.errors import ArtifactError, BusyError, DeviceError, InputError, ModelError, TruecopyError
from runtime.server import errors
from runtime.server.access_log import AccessLog
from runtime.server.admission import RequestContext
from runtime.server.auth import BearerAuth
from runtime.server.grpc.messages import METHODS, PACKAGE, POOL, SERVICE, STREAM_METHODS, message_class
from runtime.server.open_inference.requests import (
    EXTENSIONS,
    PLATFORM,
    InferRequest,
    InferResponse,
    RequestedOutput,
    model_config,
    output_specs,
)
from runtime.server.open_inference.tensors import (
    BYTES,
    check_datatype,
    count_elements,
    datatype_of,
    from_bytes,
    from_values,
    to_bytes,
)
from runtime.server.payloads import input_specs
from runtime.server.service import Service, size_bytes
from runtime.server.version import VERSION, server_version

Status: TypeAlias = grpc.StatusCode

# The status of every error; the nearest class counts. A test holds this table against all classes that exist.
STATUSES: dict[type[TruecopyError], Status] = {
    InputError: Status.INVALID_ARGUMENT,
    errors.TokenError: Status.UNAUTHENTICATED,
    errors.NotFoundError: Status.NOT_FOUND,
    errors.MethodError: Status.UNIMPLEMENTED,
    errors.TooLargeError: Status.INVALID_ARGUMENT,
    errors.MediaTypeError: Status.INVALID_ARGUMENT,
    BusyError: Status.RESOURCE_EXHAUSTED,
    errors.StoppingError: Status.UNAVAILABLE,
    errors.LateError: Status.DEADLINE_EXCEEDED,
    errors.ClientLeftError: Status.CANCELLED,
    ModelError: Status.INTERNAL,
    ArtifactError: Status.INTERNAL,
    DeviceError: Status.INTERNAL,
    TruecopyError: Status.INTERNAL,
}

_FULL_NAME = f"{PACKAGE}.{SERVICE}"

# What a message holds beside the tensors.
_MESSAGE_OVERHEAD_BYTES = 64 * 1024

_OPEN_METHODS = {"ServerLive", "ServerReady"}

# Which field of InferTensorContents holds which datatypes.
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


def status_of(error: TruecopyError) -> Status:
    """Return the gRPC status of an error: its class's, or that of its nearest base."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


class GrpcApp:
    """The calls of the protocol over one service."""

    def __init__(self, service: Service, *, access: BearerAuth, log: AccessLog) -> None:
        self._service = service
        self._access = access
        self._log = log
        self._health = health.aio.HealthServicer()
        self._server: Any = None
        self._classes = {
            name: (message_class(takes), message_class(gives))
            for name, (takes, gives) in (METHODS | STREAM_METHODS).items()
        }

    async def start(self, host: str, port: int, *, certificate: tuple[bytes, bytes] | None = None) -> int:
        """Listen, and return the port that was bound; raises OSError when it is taken."""
        largest = self._service.limits.body_bytes + _MESSAGE_OVERHEAD_BYTES
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", largest),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ]
        )
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._unary(name, getattr(self, f"_{_snake(name)}")), takes.FromString, gives.SerializeToString
            )
            for name, (takes, gives) in self._classes.items()
            if name in METHODS
        }
        takes, gives = self._classes["ModelStreamInfer"]
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream_infer, takes.FromString, gives.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_FULL_NAME, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (_FULL_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server, pool=_pool_with_health()
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if certificate is None:
                bound = self._server.add_insecure_port(address)
            else:
                key, chain = certificate
                bound = self._server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {address}: {error}") from None
        await self._server.start()
        return int(bound)

    async def set_serving(self, serving: bool) -> None:
        """Say in ``grpc.health.v1`` whether requests are welcome."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", _FULL_NAME):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and let the running ones finish within ``grace_s`` seconds."""
        if self._server is not None:
            await self._server.stop(grace_s)

    def _unary(self, name: str, handler: Callable[..., Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def answer(request: Any, context: Any) -> Any:
            call = self._new_call(context)
            status = Status.OK
            try:
                if name not in _OPEN_METHODS:
                    self._check_token(context)
                return await handler(request, call)
            except asyncio.CancelledError:
                status = Status.CANCELLED
                self._service.cancel(call)
                raise
            except TruecopyError as error:
                status = self._refuse(error, call, context)
                await context.abort(status, str(error))
            except Exception as error:  # a fault of ours: the server goes on, the log has the traceback
                status = Status.INTERNAL
                self._log.write_fault(error, call)
                await context.abort(status, f"server: internal error, request id {call.request_id}. See its log.")
            finally:
                self._end(name, status, call)

        return answer

    def _new_call(self, context: Any) -> RequestContext:
        metadata = dict(context.invocation_metadata() or ())
        call = self._access.new_call(
            request_id=metadata.get("x-request-id", ""),
            traceparent=metadata.get("traceparent", ""),
            deadline_s=self._service.limits.deadline_s,
        )
        remaining = context.time_remaining()
        if remaining is not None:
            call.shorten(remaining)
        return call

    def _check_token(self, context: Any) -> None:
        self._access.check(dict(context.invocation_metadata() or ()).get("authorization", ""))

    def _refuse(self, error: TruecopyError, call: RequestContext, context: Any) -> Status:
        self._service.metrics.add_rejection(type(error).__name__)
        call.outcome = str(error)
        if isinstance(error, errors.QueueFullError):
            context.set_trailing_metadata((("retry-after", str(max(1, round(error.retry_after_s)))),))
        return status_of(error)

    def _end(self, name: str, status: Status, call: RequestContext) -> None:
        seconds = time.monotonic() - call.started
        self._service.metrics.add_request("grpc", status.name, seconds)
        self._log.write("grpc", "POST", f"/{_FULL_NAME}/{name}", status.name, call, seconds)

    async def _server_live(self, _request: Any, _call: RequestContext) -> Any:
        return self._classes["ServerLive"][1](live=True)

    async def _server_ready(self, _request: Any, _call: RequestContext) -> Any:
        return self._classes["ServerReady"][1](ready=self._service.ready)

    async def _model_ready(self, request: Any, _call: RequestContext) -> Any:
        self._service.find(request.name, request.version)
        return self._classes["ModelReady"][1](ready=self._service.ready)

    async def _server_metadata(self, _request: Any, _call: RequestContext) -> Any:
        return self._classes["ServerMetadata"][1](name="truecopy", version=server_version(), extensions=EXTENSIONS)

    async def _model_metadata(self, request: Any, _call: RequestContext) -> Any:
        loaded = self._service.find(request.name, request.version)

        def rows(specs: Any) -> list[dict[str, Any]]:
            return [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]

        return self._classes["ModelMetadata"][1](
            name=loaded.name,
            versions=[VERSION],
            platform=PLATFORM,
            inputs=rows(input_specs(loaded.manifest)),
            outputs=rows(output_specs(loaded.manifest)),
        )

    async def _model_config(self, request: Any, _call: RequestContext) -> Any:
        loaded = self._service.find(request.name, request.version)
        config = {"config": model_config(loaded.name, loaded.manifest)}
        return json_format.ParseDict(config, self._classes["ModelConfig"][1]())

    async def _model_statistics(self, request: Any, _call: RequestContext) -> Any:
        names = [self._service.find(request.name, request.version).name] if request.name else list(self._service.models)
        rows = {"model_stats": [self._service.statistics[name].to_dict(name, VERSION) for name in names]}
        return json_format.ParseDict(rows, self._classes["ModelStatistics"][1]())

    async def _repository_index(self, request: Any, _call: RequestContext) -> Any:
        state = "READY" if self._service.ready else "UNAVAILABLE"
        if request.ready and not self._service.ready:
            return self._classes["RepositoryIndex"][1]()
        return self._classes["RepositoryIndex"][1](
            models=[{"name": name, "version": VERSION, "state": state} for name in self._service.models]
        )

    async def _model_infer(self, request: Any, call: RequestContext) -> Any:
        self._service.find(request.model_name, request.model_version)
        self._service.check_admission(call)
        size = request.ByteSize()
        self._service.admission.check_body(size - _MESSAGE_OVERHEAD_BYTES)
        with self._service.hold() as hold:
            hold.extend(size)
            parsed = await self._service.convert(
                0 if request.raw_input_contents else size, lambda: request_from_message(request)
            )
            answer, seconds = await self._service.infer(parsed, call)
            call.seconds = dict(seconds)
            raw = bool(request.raw_input_contents)
            return await self._service.convert(
                0 if raw else size_bytes(answer.outputs), lambda: message_from_response(answer, raw=raw)
            )

    async def _stream_infer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answer the requests of a stream in order; one that fails is answered with its error, and the next runs."""
        answer = self._classes["ModelStreamInfer"][1]
        async for request in requests:
            call = self._new_call(context)
            status = Status.OK
            try:
                self._check_token(context)
                yield answer(infer_response=await self._model_infer(request, call))
            except asyncio.CancelledError:
                self._service.cancel(call)
                raise
            except TruecopyError as error:
                status = self._refuse(error, call, context)
                yield answer(error_message=str(error), infer_response={"id": request.id})
            finally:
                self._end("ModelStreamInfer", status, call)


def request_from_message(message: Any) -> InferRequest:
    """Return the request that a ModelInferRequest holds, its tensors raw or typed; raises InputError for a mixture."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InputError(
            f"raw_input_contents: wrong number: expected {len(message.inputs)}, one an input, got {len(raw)}. "
            "Send all inputs raw, or none."
        )
    inputs = {}
    for position, tensor in enumerate(message.inputs):
        subject = f"input '{tensor.name}'"
        if tensor.name in inputs:
            raise InputError(f"{subject}: given twice: expected one of each name. Send it once.")
        if raw:
            if tensor.HasField("contents"):
                raise InputError(f"{subject}: both raw and typed contents: expected one of them. Drop the other.")
            inputs[tensor.name] = from_bytes(memoryview(raw[position]), tensor.datatype, tensor.shape, subject)
        else:
            inputs[tensor.name] = _from_contents(tensor, subject)
    parameters = message.parameters
    return InferRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        inputs=inputs,
        outputs=tuple(
            RequestedOutput(name=output.name, classes=_whole(output.parameters, "classification"))
            for output in message.outputs
        ),
        timeout_s=_whole(parameters, "timeout") / 1e6,
    )


def message_from_response(answer: InferResponse, *, raw: bool) -> Any:
    """Return the ModelInferResponse of an answer, its tensors raw where the request's were."""
    message = message_class("ModelInferResponse")(model_name=answer.model, model_version=answer.version, id=answer.id)
    for name, array in answer.outputs.items():
        datatype = datatype_of(array.dtype)
        tensor = message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw or datatype not in _CONTENTS:
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
        raise InputError(f"{subject}: wrong contents for {tensor.datatype}: expected '{field}', got '{others[0]}'.")
    values = getattr(tensor.contents, field)
    count = count_elements(tensor.shape, subject)
    if tensor.datatype == BYTES:
        if len(values) != count:
            raise InputError(
                f"{subject}: wrong amount of data: expected {count} values for shape {list(tensor.shape)}, "
                f"got {len(values)}. Send the array's own shape."
            )
        array = np.empty(count, dtype=object)
        array[:] = list(values)
        return array.reshape(tuple(tensor.shape))
    return from_values(list(values), tensor.datatype, tuple(tensor.shape), subject, is_base64=False, count=count)


def _whole(parameters: Any, name: str) -> int:
    if name not in parameters:
        return 0
    value = parameters[name]
    choice = value.WhichOneof("parameter_choice")
    number = getattr(value, choice) if choice in {"int64_param", "uint64_param"} else -1
    if number < 0:
        raise InputError(f"parameter '{name}': expected a whole number, got another value. Correct it.")
    return int(number)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _pool_with_health() -> Any:
    """Return the descriptors that reflection shows: ours, and those of health and reflection themselves."""
    from google.protobuf import descriptor_pb2
    from grpc_reflection.v1alpha import reflection_pb2

    for module in (health_pb2, reflection_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        POOL.Add(file)
    return POOL
