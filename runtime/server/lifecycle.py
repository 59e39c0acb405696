"""Server lifecycle: listen, reload artifacts, drain, stop."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from runtime.engine.process import raise_descriptor_limit
from runtime.errors import DeviceError, TruecopyError
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth
from runtime.server.decoding import describe
from runtime.server.errors import message_of
from runtime.server.http.app import HttpApp
from runtime.server.http.limits import BoundedProtocol, drop_unread
from runtime.server.limits import NOTICE_S, Limits
from runtime.server.loading import end_process, load_in_thread
from runtime.server.served_model import ServedModel
from runtime.server.service import Service
from runtime.server.settings import Settings, load_served_model

if TYPE_CHECKING:
    from runtime.server.grpc.app import GrpcApp

# How often --watch looks at the files; what is copied has settled when it has not changed for so long.
_WATCH_S = 1.0

# After the notice, how long a connection without a request stays open for one that is on its way.
_LAST_REQUESTS_S = 0.5

# How long a thread that holds Python's lock may keep the event loop waiting; Python's default of 5 ms adds up.
_SWITCH_S = 0.001


class _HttpServer(uvicorn.Server):
    """uvicorn's server, without its signal handlers, and with a shutdown that resets no connection."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def _new_protocol(self) -> BoundedProtocol:
        build: Callable[..., BoundedProtocol] = self.config.http_protocol_class  # type: ignore[assignment]
        return build(self.config, self.server_state, self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening without resetting connections already in the accept queue; give them a grace period.

        Closing a listening socket resets the connections that the kernel has accepted and we have not, and uvicorn
        closes those on which no request has begun: both would fail a request of a client that did nothing wrong.
        """
        duplicates = [listening.dup() for listening in sockets or []]
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        # The loop closes its side in its next iteration; until our own is closed, the kernel goes on accepting.
        await asyncio.sleep(0.01)
        connections = [connection for listening in duplicates for connection in _accept_all(listening)]
        for connection in connections:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._new_protocol, connection, ssl=self.config.ssl
            )
        await asyncio.sleep(_LAST_REQUESTS_S)
        await super().shutdown(sockets)


class Server:
    """Both front ends over one service, on the running event loop."""

    def __init__(
        self,
        settings: Settings,
        models: Sequence[ServedModel],
        *,
        limits: Limits,
        cores: int,
        auth: BearerAuth,
        log: AccessLog,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._cores = cores
        self._auth = auth
        self._log = log
        self._service = Service(models, limits=limits, workers=cores)
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._loading: Future[ServedModel] | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; ends the process where a load or a run is still in progress after that."""
        sys.setswitchinterval(_SWITCH_S)
        raise_descriptor_limit()
        _run(self._serve())
        if self._service.busy or (self._loading is not None and not self._loading.done()):
            end_process(0)

    async def _serve(self) -> None:
        """Listen, write the addresses to the log, and serve until a signal."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            _on_signal(loop, name, self._stop.set)
        if hasattr(signal, "SIGHUP"):  # Windows has none
            _on_signal(loop, signal.SIGHUP, self._reload.set)
        app = HttpApp(
            self._service,
            auth=self._auth,
            log=self._log,
            cors_origins=self._settings.cors_origins,
            root_path=self._settings.root_path,
        )
        listening = _listen(self._settings.host, self._settings.http_port)
        http = self._build_http_server(app)
        addresses: dict[str, object] = {"http": _url(self._settings, listening)}
        grpc = None
        if self._settings.grpc_port is not None:
            grpc, port = await self._start_grpc(self._settings.grpc_port)
            host = self._settings.host
            addresses["grpc"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._service.ready = self._service.open = True
        serving = asyncio.create_task(http.serve(sockets=[listening]))
        while not http.started and not serving.done():
            await asyncio.sleep(0.001)
        if grpc is not None:
            await grpc.set_serving(True)
        self._log.write_event("serving", models=", ".join(self._service.models), **addresses)
        reloading = asyncio.create_task(self._reload_artifacts())
        sweeping = asyncio.create_task(drop_unread(http.server_state.connections, most_bytes=self._limits.held_bytes))
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
        reloading.cancel()
        sweeping.cancel()
        await self._drain(app, http, serving, grpc)

    def _build_http_server(self, app: HttpApp) -> _HttpServer:
        settings = self._settings
        tls: dict[str, Any] = {}
        if settings.tls_certificate is not None:
            tls = {"ssl_certfile": settings.tls_certificate, "ssl_keyfile": settings.tls_key}
        return _HttpServer(
            uvicorn.Config(
                app,
                http=partial(  # type: ignore[arg-type]
                    BoundedProtocol, most_connections=self._limits.connections, root_path=settings.root_path
                ),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=max(1, round(settings.drain_s)),
                **tls,
            )
        )

    async def _start_grpc(self, port: int) -> "tuple[GrpcApp, int]":
        """Return the gRPC server, listening, and its port."""
        from runtime.server.grpc.app import GrpcApp, KeepAlive

        settings = self._settings
        certificate = None
        if settings.tls_certificate is not None and settings.tls_key is not None:
            certificate = settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes()
        app = GrpcApp(self._service, auth=self._auth, log=self._log)
        keep_alive = KeepAlive(
            ping_after_s=settings.grpc_keepalive_s,
            timeout_s=settings.grpc_pong_s,
            min_client_ping_s=settings.grpc_min_ping_s,
        )
        return app, await app.start(settings.host, port, certificate=certificate, keep_alive=keep_alive)

    async def _drain(
        self, app: HttpApp, http: uvicorn.Server, serving: asyncio.Task[None], grpc: "GrpcApp | None"
    ) -> None:
        """Stop accepting requests, and wait for the responses of those in flight."""
        self._log.write_event("stopping", inputs=self._service.admission.runs)
        until = time.monotonic() + self._settings.drain_s
        self._service.ready = False
        app.stopping = True
        if grpc is not None:
            await grpc.set_serving(False)
        await asyncio.sleep(min(NOTICE_S, self._settings.drain_s / 4))
        http.should_exit = True
        closing = [serving]
        if grpc is not None:
            closing.append(asyncio.create_task(grpc.stop(max(0.0, until - time.monotonic()))))
        await asyncio.wait(closing, timeout=max(0.0, until - time.monotonic()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._service.drained()
        unfinished = self._service.admission.runs
        # Runs still in progress belong to requests whose clients are cut off: they must not keep the process alive.
        self._service.close(within_s=max(0.0, until - time.monotonic()))
        self._log.write_event("stopped", unfinished=unfinished)
        http.force_exit = True
        for task in closing:
            if task.done():
                task.result()

    async def _reload_artifacts(self) -> None:
        """Reload all artifacts on SIGHUP, and with --watch those whose files have changed and then stayed the same."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_S if self._settings.watch else None):
                    await self._reload.wait()
            requested = self._reload.is_set()
            self._reload.clear()
            for model in list(self._service.models.values()):
                if (self._settings.watch and model.watch.has_settled()) or requested:
                    await self._reload_artifact(model)

    async def _reload_artifact(self, model: ServedModel) -> None:
        """Swap in the artifact that is now in the folder of ``model``; one that fails to verify is not served."""
        self._loading = load_in_thread(
            load_served_model,
            self._settings,
            model.name,
            model.path,
            cores=self._cores,
            max_pixels=self._limits.pixels,
        )
        try:
            reloaded = await asyncio.wrap_future(self._loading)
        except TruecopyError as error:
            self._keep(model, message_of(error))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # whatever is in that folder: the loaded model stays in service
            self._keep(model, describe(error))
        else:
            self._service.swap(reloaded)
            self._service.metrics.add_reload(model.name, "swapped")
            self._log.write_event("swapped", model=model.name)

    def _keep(self, model: ServedModel, error: str) -> None:
        """Report that the loaded model stays in service."""
        self._service.metrics.add_reload(model.name, "kept")
        self._log.write_event("kept", model=model.name, error=error)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on ``host`` and ``port``; port 0 means a free one.

    Raises DeviceError where the address cannot be bound.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, UnicodeError) as error:  # the latter for what can be no name of a host
        reason = error.strerror or error if isinstance(error, OSError) else "no host name"
        raise DeviceError(
            f"'{host[:100]}:{port}': cannot listen: {reason}. Choose another address: --host, --http-port."
        ) from error
    listening.setblocking(False)
    return listening


def _accept_all(listening: socket.socket) -> list[socket.socket]:
    """Return the connections in the accept queue, and close the listening socket."""
    connections = []
    listening.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            connection.setblocking(False)
            connections.append(connection)
    listening.close()
    return connections


def _run(serving: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(serving)
    else:
        uvloop.run(serving)


def _on_signal(loop: asyncio.AbstractEventLoop, number: signal.Signals, callback: Callable[[], None]) -> None:
    try:
        loop.add_signal_handler(number, callback)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(callback))


def _url(settings: Settings, listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    scheme = "http" if settings.tls_certificate is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
