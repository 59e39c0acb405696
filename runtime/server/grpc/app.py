"""gRPC API: the Open Inference Protocol, health and reflection."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf import descriptor_pb2, json_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from runtime.errors import DeviceError, TruecopyError
from runtime.server.access_log import AccessLog
from runtime.server.admission import BodyReservation
from runtime.server.auth import BearerAuth
from runtime.server.context import RequestContext, new_context
from runtime.server.decoding import ENDINGS
from runtime.server.errors import QueueFullError, find_status, message_of
from runtime.server.grpc.gate import Gate
from runtime.server.grpc.messages import POOL, SERVICE, message_class
from runtime.server.grpc.statuses import STATUSES, Status
from runtime.server.grpc.tensors import message_from_response, request_from_message
from runtime.server.grpc.wire import check_message, read_id
from runtime.server.open_inference.requests import EXTENSIONS, model_config, model_metadata
from runtime.server.service import Service, size_bytes
from runtime.server.version import MODEL_VERSION
from runtime.version import package_version

_SERVICE_NAME = SERVICE.full_name

# Returns the response message for a request message.
_Handler: TypeAlias = Callable[[Any, RequestContext, BodyReservation], Awaitable[Any]]

# The most bytes of a message besides its tensors.
_MESSAGE_OVERHEAD_BYTES = 64 * 1024

# Only messages as they are: gRPC unpacks compressed ones to any size before it knows how large they are.
_IDENTITY_ONLY = 1

# Connections without a call are closed: they take file descriptors.
_MOST_IDLE_MS = 300_000

# The parameter of Triton's streams that says that a request has no further response: here each has one.
_FINAL = "triton_final_response"


@dataclass(frozen=True, kw_only=True)
class KeepAlive:
    """Pings of idle connections, in seconds: the server's own, and how often a client's are accepted."""

    ping_after_s: float = 7200.0
    timeout_s: float = 20.0
    min_client_ping_s: float = 300.0

    def options(self) -> list[tuple[str, int]]:
        """Return gRPC's options of a server; clients may also ping between their calls."""
        return [
            ("grpc.keepalive_time_ms", round(self.ping_after_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.timeout_s * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", round(self.min_client_ping_s * 1000)),
        ]


_DEFAULT_KEEP_ALIVE = KeepAlive()


class GrpcApp:
    """A gRPC server over one service."""

    def __init__(self, service: Service, *, auth: BearerAuth, log: AccessLog) -> None:
        self._service = service
        self._auth = auth
        self._log = log
        self._health = health.aio.HealthServicer()
        self._server: Any = None

    async def start(
        self,
        host: str,
        port: int,
        *,
        certificate: tuple[bytes, bytes] | None = None,
        keep_alive: KeepAlive = _DEFAULT_KEEP_ALIVE,
    ) -> int:
        """Listen, and return the port; ``certificate`` is a key and a certificate chain, PEM.

        Raises DeviceError where the address cannot be bound.
        """
        largest_bytes = self._service.limits.body_bytes + _MESSAGE_OVERHEAD_BYTES
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", largest_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
                ("grpc.max_connection_idle_ms", _MOST_IDLE_MS),
                *keep_alive.options(),
            ],
            interceptors=[Gate(_SERVICE_NAME, auth=self._auth, abort=self._abort)],
        )
        handlers = {method.name: self._method_handler(method) for method in SERVICE.methods}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE_NAME, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (_SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server, pool=_pool_with_health()
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if certificate is None:
                bound = self._server.add_insecure_port(address)
            else:
                key, chain = certificate
                bound = self._server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
        except RuntimeError:  # its reason is in gRPC's own log alone
            raise DeviceError(
                f"'{address}': cannot listen: in use, or no address of this machine. Choose another: --host, "
                "--grpc-port."
            ) from None
        await self._server.start()
        return int(bound)

    async def set_serving(self, serving: bool) -> None:
        """Set the status that ``grpc.health.v1`` reports."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", _SERVICE_NAME):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Accept no more calls, and let the running ones finish within ``grace_s`` seconds."""
        if self._server is not None:
            await self._server.stop(grace_s)

    def _method_handler(self, method: Any) -> Any:
        """Return gRPC's handler of a method of the service; messages are decoded and encoded inside the call."""
        handler = getattr(self, f"_{_snake(method.name)}")
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(handler)
        return grpc.unary_unary_rpc_method_handler(self._unary(method, handler))

    def _unary(self, method: Any, handler: _Handler) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def respond(data: bytes, rpc: Any) -> bytes:
            context = self._new_context(rpc)
            status = Status.OK
            try:
                return await self._respond(data, method.input_type, handler, context)
            except asyncio.CancelledError:
                status = Status.CANCELLED
                self._service.cancel(context)
                raise
            except ENDINGS:
                raise
            except BaseException as error:
                status, message = self._report_error(error, context, rpc)
            finally:
                self._write_log(f"/{_SERVICE_NAME}/{method.name}", status, context)
            # gRPC keeps the error that this raises, and with it all that this frame and its causes hold.
            del data
            await rpc.abort(status, message)
            raise AssertionError("abort raises an error")

        return respond

    async def _respond(self, data: bytes, descriptor: Any, handler: _Handler, context: RequestContext) -> bytes:
        """Return the encoded response to an encoded request, whose memory is reserved before it is decoded."""
        if descriptor.name == "ModelInferRequest":
            self._service.check_admission(context)
        self._service.admission.check_body(len(data) - _MESSAGE_OVERHEAD_BYTES)
        with self._service.reserve_body() as reservation:
            reservation.extend(len(data))

            def read() -> Any:
                check_message(data, descriptor, reservation.extend)
                return message_class(descriptor.name).FromString(data)

            request = await self._service.decode(len(data), read, "message")
            response = await handler(request, context, reservation)
            encoded: bytes = await self._service.convert(response.ByteSize(), response.SerializeToString)
            return encoded

    def _new_context(self, rpc: Any) -> RequestContext:
        metadata = dict(rpc.invocation_metadata() or ())
        context = new_context(
            request_id=metadata.get("x-request-id", ""),
            traceparent=metadata.get("traceparent", ""),
            deadline_s=self._service.limits.deadline_s,
        )
        remaining_s = rpc.time_remaining()
        if remaining_s is not None:
            context.shorten(remaining_s)
        return context

    async def _abort(self, path: str, error: TruecopyError, rpc: Any) -> None:
        """End a call with the status of an error, and log it."""
        context = self._new_context(rpc)
        status, message = self._report_error(error, context, rpc)
        self._write_log(path, status, context)
        await rpc.abort(status, message)

    def _report_error(self, error: BaseException, context: RequestContext, rpc: Any) -> tuple[Status, str]:
        """Count an error, or log a fault of ours; return its status and message."""
        if not isinstance(error, TruecopyError):  # the server goes on
            self._log.write_internal_error(error, context)
            return Status.INTERNAL, f"server: internal error, request ID {context.request_id}. See the server's log."
        self._service.metrics.add_rejection(type(error).__name__)
        context.error = message_of(error)
        if isinstance(error, QueueFullError):
            rpc.set_trailing_metadata((("retry-after", str(error.retry_after_s)),))
        return find_status(error, STATUSES), context.error

    def _write_log(self, path: str, status: Status, context: RequestContext) -> None:
        seconds = time.monotonic() - context.started
        self._service.metrics.add_request("grpc", status.name, seconds)
        self._log.write_request("grpc", "POST", path, status.name, context, seconds)

    async def _server_live(self, _request: Any, _context: RequestContext, _reservation: BodyReservation) -> Any:
        return message_class("ServerLiveResponse")(live=True)

    async def _server_ready(self, _request: Any, _context: RequestContext, _reservation: BodyReservation) -> Any:
        return message_class("ServerReadyResponse")(ready=self._service.ready)

    async def _model_ready(self, request: Any, _context: RequestContext, _reservation: BodyReservation) -> Any:
        self._service.find(request.name, request.version)
        return message_class("ModelReadyResponse")(ready=self._service.ready)

    async def _server_metadata(self, _request: Any, _context: RequestContext, _reservation: BodyReservation) -> Any:
        return message_class("ServerMetadataResponse")(
            name="truecopy", version=package_version(), extensions=EXTENSIONS
        )

    async def _model_metadata(self, request: Any, _context: RequestContext, _reservation: BodyReservation) -> Any:
        model = self._service.find(request.name, request.version)
        metadata = model_metadata(model.name, model.manifest)
        # The message has no parameters.
        return json_format.ParseDict(metadata, message_class("ModelMetadataResponse")(), ignore_unknown_fields=True)

    async def _model_config(self, request: Any, _context: RequestContext, _reservation: BodyReservation) -> Any:
        model = self._service.find(request.name, request.version)
        config = {"config": model_config(model.name, model.manifest)}
        return json_format.ParseDict(config, message_class("ModelConfigResponse")())

    async def _model_statistics(self, request: Any, _context: RequestContext, _reservation: BodyReservation) -> Any:
        names = [self._service.find(request.name, request.version).name] if request.name else list(self._service.models)
        rows = {"model_stats": [self._service.statistics[name].to_dict(name, MODEL_VERSION) for name in names]}
        return json_format.ParseDict(rows, message_class("ModelStatisticsResponse")())

    async def _repository_index(self, request: Any, _context: RequestContext, _reservation: BodyReservation) -> Any:
        state = "READY" if self._service.ready else "UNAVAILABLE"
        if request.ready and not self._service.ready:
            return message_class("RepositoryIndexResponse")()
        return message_class("RepositoryIndexResponse")(
            models=[{"name": name, "version": MODEL_VERSION, "state": state} for name in self._service.models]
        )

    async def _model_infer(self, request: Any, context: RequestContext, reservation: BodyReservation) -> Any:
        service = self._service
        model = service.find(request.model_name, request.model_version)
        claims = service.tensor_claims(model, reservation)
        raw = bool(request.raw_input_contents)
        parsed = await service.decode(
            0 if raw else request.ByteSize(), lambda: request_from_message(request, claims), "request"
        )
        response, seconds = await service.infer(parsed, context)
        context.stage_seconds = dict(seconds)
        return await service.convert(
            0 if raw else size_bytes(response.outputs), lambda: message_from_response(response, raw=raw)
        )

    async def _model_infer_in_stream(self, request: Any, context: RequestContext, reservation: BodyReservation) -> Any:
        response = await self._model_infer(request, context, reservation)
        response.parameters[_FINAL].bool_param = True
        return message_class("ModelStreamInferResponse")(infer_response=response)

    async def _model_stream_infer(self, requests: AsyncIterator[bytes], rpc: Any) -> AsyncIterator[bytes]:
        """Yield the responses of a stream in order; the response to a request that fails has its error."""
        request_type = message_class("ModelInferRequest").DESCRIPTOR
        async for data in requests:
            context = self._new_context(rpc)
            status = Status.OK
            try:
                response = await self._respond(data, request_type, self._model_infer_in_stream, context)
            except asyncio.CancelledError:
                status = Status.CANCELLED
                self._service.cancel(context)
                raise
            except ENDINGS:
                raise
            except BaseException as error:
                status, message = self._report_error(error, context, rpc)
                failed = message_class("ModelStreamInferResponse")(
                    error_message=message, infer_response={"id": read_id(data)}
                )
                failed.infer_response.parameters[_FINAL].bool_param = True
                response = failed.SerializeToString()
            finally:
                self._write_log(f"/{_SERVICE_NAME}/ModelStreamInfer", status, context)
            yield response


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _pool_with_health() -> Any:
    """Return the descriptors for reflection: ours, and those of the health and reflection services."""
    for module in (health_pb2, reflection_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        POOL.Add(file)
    return POOL
