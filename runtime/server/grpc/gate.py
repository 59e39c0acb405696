"""gRPC interceptor: the token of every call, and requests of other services that are no messages."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health

from runtime.errors import InputError, TruecopyError
from runtime.server.auth import BearerAuth
from runtime.server.decoding import decode, detached
from runtime.server.errors import TokenError

# Ends a call with the status of an error.
Abort: TypeAlias = Callable[[str, TruecopyError, Any], Awaitable[None]]

_PUBLIC_NAMES = {"ServerLive", "ServerReady"}


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Checks a call before its messages are received.

    The service itself decodes its own messages; those of the health and reflection services are decoded here, where
    whatever a client sent ends in INVALID_ARGUMENT.
    """

    def __init__(self, service_name: str, *, auth: BearerAuth, abort: Abort) -> None:
        self._own = f"/{service_name}/"
        self._auth = auth
        self._abort = abort

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Return the handler of a call, or one that refuses it."""
        method: str = handler_call_details.method
        if not self._is_public(method):
            metadata: Mapping[str, Any] = dict(handler_call_details.invocation_metadata or ())
            try:
                self._auth.check(str(metadata.get("authorization", "")))
            except TokenError as error:
                return self._refusing(method, error)
        handler = await continuation(handler_call_details)
        return handler if handler is None or method.startswith(self._own) else self._guarded(method, handler)

    def _is_public(self, method: str) -> bool:
        return method.startswith(f"/{health.SERVICE_NAME}/") or method.removeprefix(self._own) in _PUBLIC_NAMES

    def _refusing(self, method: str, error: TruecopyError) -> Any:
        async def refuse(_requests: Any, rpc: Any) -> None:
            await self._abort(method, error, rpc)

        return grpc.stream_stream_rpc_method_handler(refuse)

    def _guarded(self, method: str, handler: Any) -> Any:
        guarded = _GuardedMethod(method, handler, self._abort)
        serialize = handler.response_serializer
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(guarded.respond, None, serialize)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(guarded.respond_with_stream, None, serialize)
        return grpc.stream_stream_rpc_method_handler(guarded.respond_to_stream, None, serialize)


class _GuardedMethod:
    """A method of another service, whose requests are decoded inside the call."""

    def __init__(self, method: str, handler: Any, abort: Abort) -> None:
        self._method = method
        self._handler = handler
        self._abort = abort

    async def respond(self, data: bytes, rpc: Any) -> Any:
        try:
            return await self._handler.unary_unary(self._read(data), rpc)
        except InputError as error:
            failure = detached(error)
        del data  # gRPC keeps the error of an abort, and with it what this frame holds
        return await self._abort(self._method, failure, rpc)

    async def respond_with_stream(self, data: bytes, rpc: Any) -> None:
        try:
            await self._handler.unary_stream(self._read(data), rpc)
            return
        except InputError as error:
            failure = detached(error)
        del data
        await self._abort(self._method, failure, rpc)

    async def respond_to_stream(self, messages: AsyncIterator[bytes], rpc: Any) -> AsyncIterator[Any]:
        try:
            async for response in self._handler.stream_stream(self._read_all(messages), rpc):
                yield response
            return
        except InputError as error:
            failure = detached(error)
        await self._abort(self._method, failure, rpc)

    def _read(self, data: bytes) -> Any:
        return decode(lambda: self._handler.request_deserializer(data), "message")

    async def _read_all(self, messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in messages:
            yield self._read(data)
