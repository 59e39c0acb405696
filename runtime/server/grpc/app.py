"""gRPC API: the Open Inference Protocol, health and reflection."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, json_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from runtime.errors import TruecopyError
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth
from runtime.server.context import RequestContext, new_context
from runtime.server.errors import QueueFullError, find_status
from runtime.server.grpc.messages import POOL, SERVICE, message_class
from runtime.server.grpc.statuses import STATUSES, Status
from runtime.server.grpc.tensors import message_from_response, request_from_message
from runtime.server.open_inference.requests import EXTENSIONS, model_config, model_metadata
from runtime.server.service import Service, size_bytes
from runtime.server.version import MODEL_VERSION
from runtime.version import package_version

_SERVICE_NAME = SERVICE.full_name

# The most bytes of a message besides its tensors.
_MESSAGE_OVERHEAD_BYTES = 64 * 1024

# Methods that need no token.
_PUBLIC_METHODS = {"ServerLive", "ServerReady"}


class GrpcApp:
    """A gRPC server over one service."""

    def __init__(self, service: Service, *, auth: BearerAuth, log: AccessLog) -> None:
        self._service = service
        self._auth = auth
        self._log = log
        self._health = health.aio.HealthServicer()
        self._server: Any = None

    async def start(self, host: str, port: int, *, certificate: tuple[bytes, bytes] | None = None) -> int:
        """Listen, and return the port; ``certificate`` is a key and a certificate chain, PEM.

        Raises OSError when the port is in use.
        """
        largest_bytes = self._service.limits.body_bytes + _MESSAGE_OVERHEAD_BYTES
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", largest_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ]
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
        except RuntimeError as error:
            raise OSError(
                f"'{address}': cannot listen: {error}. Choose another address: --host, --grpc-port."
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
        """Return gRPC's handler of a method of the service."""
        request_class, response_class = message_class(method.input_type.name), message_class(method.output_type.name)
        handler = getattr(self, f"_{_snake(method.name)}")
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(
                handler, request_class.FromString, response_class.SerializeToString
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method.name, handler), request_class.FromString, response_class.SerializeToString
        )

    def _unary(self, name: str, handler: Callable[..., Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def respond(request: Any, rpc: Any) -> Any:
            context = self._new_context(rpc)
            status = Status.OK
            try:
                if name not in _PUBLIC_METHODS:
                    self._check_token(rpc)
                return await handler(request, context)
            except asyncio.CancelledError:
                status = Status.CANCELLED
                self._service.cancel(context)
                raise
            except Exception as error:
                status, message = self._report_error(error, context, rpc)
                await rpc.abort(status, message)
            finally:
                self._write_log(name, status, context)

        return respond

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

    def _check_token(self, rpc: Any) -> None:
        self._auth.check(dict(rpc.invocation_metadata() or ()).get("authorization", ""))

    def _report_error(self, error: Exception, context: RequestContext, rpc: Any) -> tuple[Status, str]:
        """Count an error, or log a fault of ours; return its status and message."""
        if not isinstance(error, TruecopyError):  # the server goes on
            self._log.write_internal_error(error, context)
            return Status.INTERNAL, f"server: internal error, request ID {context.request_id}. See the server's log."
        self._service.metrics.add_rejection(type(error).__name__)
        context.error = str(error)
        if isinstance(error, QueueFullError):
            rpc.set_trailing_metadata((("retry-after", str(error.retry_after_s)),))
        return find_status(error, STATUSES), str(error)

    def _write_log(self, name: str, status: Status, context: RequestContext) -> None:
        seconds = time.monotonic() - context.started
        self._service.metrics.add_request("grpc", status.name, seconds)
        self._log.write_request("grpc", "POST", f"/{_SERVICE_NAME}/{name}", status.name, context, seconds)

    async def _server_live(self, _request: Any, _context: RequestContext) -> Any:
        return message_class("ServerLiveResponse")(live=True)

    async def _server_ready(self, _request: Any, _context: RequestContext) -> Any:
        return message_class("ServerReadyResponse")(ready=self._service.ready)

    async def _model_ready(self, request: Any, _context: RequestContext) -> Any:
        self._service.find(request.name, request.version)
        return message_class("ModelReadyResponse")(ready=self._service.ready)

    async def _server_metadata(self, _request: Any, _context: RequestContext) -> Any:
        return message_class("ServerMetadataResponse")(
            name="truecopy", version=package_version(), extensions=EXTENSIONS
        )

    async def _model_metadata(self, request: Any, _context: RequestContext) -> Any:
        model = self._service.find(request.name, request.version)
        metadata = model_metadata(model.name, model.manifest)
        # The message has no parameters.
        return json_format.ParseDict(metadata, message_class("ModelMetadataResponse")(), ignore_unknown_fields=True)

    async def _model_config(self, request: Any, _context: RequestContext) -> Any:
        model = self._service.find(request.name, request.version)
        config = {"config": model_config(model.name, model.manifest)}
        return json_format.ParseDict(config, message_class("ModelConfigResponse")())

    async def _model_statistics(self, request: Any, _context: RequestContext) -> Any:
        names = [self._service.find(request.name, request.version).name] if request.name else list(self._service.models)
        rows = {"model_stats": [self._service.statistics[name].to_dict(name, MODEL_VERSION) for name in names]}
        return json_format.ParseDict(rows, message_class("ModelStatisticsResponse")())

    async def _repository_index(self, request: Any, _context: RequestContext) -> Any:
        state = "READY" if self._service.ready else "UNAVAILABLE"
        if request.ready and not self._service.ready:
            return message_class("RepositoryIndexResponse")()
        return message_class("RepositoryIndexResponse")(
            models=[{"name": name, "version": MODEL_VERSION, "state": state} for name in self._service.models]
        )

    async def _model_infer(self, request: Any, context: RequestContext) -> Any:
        self._service.find(request.model_name, request.model_version)
        self._service.check_admission(context)
        request_bytes = request.ByteSize()
        self._service.admission.check_body(request_bytes - _MESSAGE_OVERHEAD_BYTES)
        with self._service.reserve_body() as reservation:
            reservation.extend(request_bytes)
            parsed = await self._service.convert(
                0 if request.raw_input_contents else request_bytes, lambda: request_from_message(request)
            )
            response, seconds = await self._service.infer(parsed, context)
            context.stage_seconds = dict(seconds)
            raw = bool(request.raw_input_contents)
            return await self._service.convert(
                0 if raw else size_bytes(response.outputs), lambda: message_from_response(response, raw=raw)
            )

    async def _model_stream_infer(self, requests: AsyncIterator[Any], rpc: Any) -> AsyncIterator[Any]:
        """Yield the responses of a stream in order; the response to a request that fails has its error."""
        response_class = message_class("ModelStreamInferResponse")
        async for request in requests:
            context = self._new_context(rpc)
            status = Status.OK
            try:
                self._check_token(rpc)
                response = response_class(infer_response=await self._model_infer(request, context))
            except asyncio.CancelledError:
                status = Status.CANCELLED
                self._service.cancel(context)
                raise
            except Exception as error:
                status, message = self._report_error(error, context, rpc)
                response = response_class(error_message=message, infer_response={"id": request.id})
            finally:
                self._write_log("ModelStreamInfer", status, context)
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
