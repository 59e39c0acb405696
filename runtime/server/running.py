"""The life of a server process: load, verify, listen, swap, drain, leave."""

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from runtime.cores import usable_cores
from runtime.errors import DeviceError, InputError, TruecopyError
from runtime.server.access import Access, read_token
from runtime.server.http_front import HttpFront
from runtime.server.limits import Limits, limits_for_memory
from runtime.server.loaded import Batching, Loaded, load_verified
from runtime.server.protocol import BoundedProtocol
from runtime.server.requestlog import LogFormat, RequestLog
from runtime.server.service import Service

# How often --watch looks at the manifests.
_WATCH_S = 1.0

# After SIGTERM a server goes on for a moment, not ready: balancers and clients that keep connections learn of it.
_NOTICE_S = 0.5

# How long a connection without a request is kept open after that, for one that is on its way.
_LAST_REQUESTS_S = 0.2

# Libraries that warn of every bad request: whoever sends them must not fill the log.
_TALKATIVE = ("uvicorn.error", "python_multipart")

# Connections beyond this are told to come again, before a byte of theirs is kept.
_MOST_CONNECTIONS = 2048


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What 'truecopy serve' was asked for."""

    artifacts: Sequence[str]
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int | None = 8001
    device: str = "auto"
    batching: Batching = "auto"
    limits: Limits = field(default_factory=Limits)
    memory_limit_bytes: int | None = None
    drain_s: float = 30.0
    watch: bool = False
    token_file: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    log_format: LogFormat = "text"


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


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, and return when every request that was taken has its answer.

    Raises ArtifactError or DeviceError when an artifact cannot be served, InputError for settings that contradict each
    other, OSError when a port is taken.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise InputError("--tls-cert, --tls-key: expected both or neither, got one. Give both files.")
    access = Access(read_token(settings.token_file))
    log = RequestLog(settings.log_format)
    cores = usable_cores()
    names = _named(settings.artifacts)
    models = [_load(settings, name, path, cores, settings.limits.pixels) for name, path in names]
    limits = settings.limits
    if settings.memory_limit_bytes is not None:
        limits = limits_for_memory(
            limits, memory_bytes=settings.memory_limit_bytes, resident_bytes=_resident_bytes(), workers=cores
        )
        if limits.pixels < settings.limits.pixels:
            models = [_load(settings, name, path, cores, limits.pixels) for name, path in names]
    _check_names(models)
    _Server(settings, models, limits, cores, access, log).run()


class _Server:
    """Both front ends over one service, on the running event loop."""

    def __init__(
        self,
        settings: Settings,
        models: Sequence[Loaded],
        limits: Limits,
        cores: int,
        access: Access,
        log: RequestLog,
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
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        """Listen, say so, and serve until a signal says to stop."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        front = HttpFront(self._service, access=self._access, log=self._log)
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
            from runtime.server.grpc_front import GrpcFront

            grpc_front = GrpcFront(self._service, access=self._access, log=self._log)
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

    async def _drain(
        self, front: HttpFront, http: uvicorn.Server, serving: asyncio.Task[None], grpc_front: Any
    ) -> None:
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

    async def _load_again(self, loaded: Loaded) -> None:
        """Swap in the artifact that is now in the folder of ``loaded``; one that fails to verify is not served."""
        try:
            fresh = await asyncio.to_thread(
                _load, self._settings, loaded.name, loaded.path, self._cores, self._limits.pixels
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


def _load(settings: Settings, name: str, path: Path, cores: int, max_pixels: int) -> Loaded:
    return load_verified(
        path, name=name, device=settings.device, cores=cores, max_pixels=max_pixels, batching=settings.batching
    )


def _named(artifacts: Sequence[str]) -> list[tuple[str, Path]]:
    """Return the name, empty for the artifact's own, and the folder of each argument: ``NAME=FOLDER`` or ``FOLDER``."""
    pairs = []
    for argument in artifacts:
        name, equals, path = argument.partition("=")
        pairs.append((name, Path(path)) if equals and not Path(argument).exists() else ("", Path(argument)))
    return pairs


def _check_names(models: Sequence[Loaded]) -> None:
    names = [loaded.name for loaded in models]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"'{name}': two models of this name: expected one of each. Write NAME=FOLDER for one.")
        if not name or "/" in name or not name.isprintable():
            raise InputError(f"'{name}': no name for a path: expected printable text without '/'. Write NAME=FOLDER.")


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


def _resident_bytes() -> int:
    """Return the memory that this process has in use."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * resource.getpagesize()
