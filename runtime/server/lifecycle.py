"""The life of a server process with its models loaded: listen, swap, drain, leave."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from runtime.errors import DeviceError, TruecopyError
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth
from runtime.server.http.app import HttpApp
from runtime.server.http.limits import BoundedProtocol
from runtime.server.limits import Limits
from runtime.server.served_model import ServedModel
from runtime.server.service import Service
from runtime.server.settings import Settings, load_as

# How often --watch looks at the manifests.
_WATCH_S = 1.0

# After SIGTERM a server goes on for a moment, not ready: balancers and clients that keep connections learn of it.
_NOTICE_S = 0.5

# How long a connection without a request is kept open after that, for one that is on its way.
_LAST_REQUESTS_S = 0.2

# How long a thread that holds Python's lock may keep the event loop waiting for it; Python's own 5 ms add up.
_SWITCH_S = 0.001

# Connections beyond this are told to come again, before a byte of theirs is kept.
_MOST_CONNECTIONS = 2048


class _HttpServer(uvicorn.Server):
    """uvicorn, whose signals are this room's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def _new_protocol(self) -> BoundedProtocol:
        return BoundedProtocol(self.config, self.server_state, self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening without a reset for those who are at the door, and leave them a moment to ask.

        Closing a listening socket resets the connections that the kernel has accepted and we have not, and uvicorn
        closes those on which no request has begun: both would be a failed request to a client that did nothing wrong.
        """
        doors = [listening.dup() for listening in sockets or []]
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        # The loop closes its side when it comes round; until our own is closed, the kernel goes on accepting.
        await asyncio.sleep(0.01)
        waiting = [connection for door in doors for connection in _accept_all(door)]
        for connection in waiting:
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
        limits: Limits,
        cores: int,
        access: BearerAuth,
        log: AccessLog,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._cores = cores
        self._access = access
        self._log = log
        self._service = Service(models, limits=limits, workers=cores)
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._stamps = {name: _stamp(loaded.path) for name, loaded in self._service.models.items()}

    def run(self) -> None:
        """Serve until a signal says to stop."""
        sys.setswitchinterval(_SWITCH_S)
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        """Listen, say so, and serve until a signal says to stop."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        front = HttpApp(self._service, access=self._access, log=self._log)
        listening = _listen(settings.host, settings.http_port)
        tls: dict[str, Any] = {}
        if settings.tls_certificate is not None:
            tls = {"ssl_certfile": settings.tls_certificate, "ssl_keyfile": settings.tls_key}
        http = _HttpServer(
            uvicorn.Config(
                front,
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=max(1, round(settings.drain_s)),
                **tls,
            )
        )
        grpc_front = None
        ports: dict[str, object] = {"http": _url(settings, listening)}
        if settings.grpc_port is not None:
            from runtime.server.grpc.app import GrpcApp

            grpc_front = GrpcApp(self._service, access=self._access, log=self._log)
            certificate = None
            if settings.tls_certificate is not None and settings.tls_key is not None:
                certificate = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
            port = await grpc_front.start(settings.host, settings.grpc_port, certificate=certificate)
            ports["grpc"] = f"{settings.host}:{port}"
        self._service.ready = self._service.open = True
        serving = asyncio.create_task(http.serve(sockets=[listening]))
        while not http.started and not serving.done():
            await asyncio.sleep(0.001)
        if grpc_front is not None:
            await grpc_front.set_serving(True)
        self._log.write_event("serving", models=", ".join(self._service.models), **ports)
        keeping = asyncio.create_task(self._keep_up())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
        keeping.cancel()
        await self._drain(front, http, serving, grpc_front)

    async def _drain(self, front: HttpApp, http: uvicorn.Server, serving: asyncio.Task[None], grpc_front: Any) -> None:
        """Stop taking requests, and wait for the answers of those that were taken."""
        self._log.write_event("stopping", inputs=self._service.admission.inputs)
        until = time.monotonic() + self._settings.drain_s
        self._service.ready = False
        front.stopping = True
        if grpc_front is not None:
            await grpc_front.set_serving(False)
        await asyncio.sleep(min(_NOTICE_S, self._settings.drain_s / 4))
        http.should_exit = True
        closing = [serving]
        if grpc_front is not None:
            closing.append(asyncio.create_task(grpc_front.stop(max(0.0, until - time.monotonic()))))
        await asyncio.wait(closing, timeout=max(0.0, until - time.monotonic()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._service.drained()
        unfinished = self._service.admission.inputs
        # What is still running now belongs to requests whose clients are cut off: it must not hold the process up.
        self._service.close(within_s=max(0.0, until - time.monotonic()))
        self._log.write_event("stopped", unfinished=unfinished)
        http.force_exit = True
        for task in closing:
            if task.done():
                task.result()

    async def _keep_up(self) -> None:
        """Load artifacts again: all of them on SIGHUP, and with --watch those whose manifest has changed."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_S if self._settings.watch else None):
                    await self._reload.wait()
            asked = self._reload.is_set()
            self._reload.clear()
            for name, loaded in list(self._service.models.items()):
                stamp = _stamp(loaded.path)
                if asked or (self._settings.watch and stamp not in {self._stamps[name], None}):
                    self._stamps[name] = stamp
                    await self._load_again(loaded)

    async def _load_again(self, loaded: ServedModel) -> None:
        """Swap in the artifact that is now in the folder of ``loaded``; one that fails to verify is not served."""
        try:
            fresh = await asyncio.to_thread(
                load_as, self._settings, loaded.name, loaded.path, self._cores, self._limits.pixels
            )
        except TruecopyError as error:
            self._service.metrics.add_reload(loaded.name, "kept")
            self._log.write_event("kept", model=loaded.name, error=str(error))
            return
        except Exception as error:  # whatever is in that folder: the model that serves goes on serving
            self._service.metrics.add_reload(loaded.name, "kept")
            self._log.write_event("kept", model=loaded.name, error=repr(error))
            return
        self._service.swap(fresh)
        self._service.metrics.add_reload(loaded.name, "swapped")
        self._log.write_event("swapped", model=loaded.name)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on ``host`` and ``port``; 0 is a free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise DeviceError(
            f"'{host}:{port}': cannot listen: {error.strerror or error}. Choose another with --host and --http-port."
        ) from error
    listening.setblocking(False)
    return listening


def _accept_all(listening: socket.socket) -> list[socket.socket]:
    """Return the connections that wait to be accepted, and close the door behind the last one."""
    waiting = []
    listening.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            connection.setblocking(False)
            waiting.append(connection)
    listening.close()
    return waiting


def _url(settings: Settings, listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    scheme = "http" if settings.tls_certificate is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when another manifest is in the folder; None while there is none."""
    try:
        status = (path / "truecopy.json").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
