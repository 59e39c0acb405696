"""The command 'truecopy serve'."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from runtime.console import DEVICE_HELP, PRECISION_HELP
from runtime.errors import DeviceError
from runtime.server.options import Batching, LogFormat

_LIMITS = "Limits"
_SECURITY = "Security"
_OPERATION = "Operation"

_MODULES = ("uvicorn", "starlette", "httptools", "python_multipart", "prometheus_client")
# They have no wheels for some platforms, such as Windows on ARM.
_GRPC_MODULES = ("grpc", "grpc_health", "grpc_reflection")


def serve(
    artifacts: Annotated[
        list[str], typer.Argument(metavar="ARTIFACT...", help="Artifact folders; NAME=FOLDER sets the model's name.")
    ],
    host: Annotated[str, typer.Option(help="Address to bind; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="HTTP port; 0 picks a free one.")] = 8000,
    grpc_port: Annotated[
        int, typer.Option(min=-1, max=65535, help="gRPC port; 0 picks a free one, -1 disables gRPC.")
    ] = 8001,
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "fp32",
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    batching: Annotated[
        Batching, typer.Option(help="Dynamic batching of inputs; auto means on accelerators only.")
    ] = "auto",
    max_body_mb: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="Largest request body, in MB, as sent and after decompression; with its values it may take four times "
            "that.",
            rich_help_panel=_LIMITS,
        ),
    ] = 32,
    max_buffered_mb: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="Most memory for the bodies and values of all requests, in MB; above it they get 429.",
            rich_help_panel=_LIMITS,
        ),
    ] = 256,
    max_megapixels: Annotated[
        float, typer.Option(min=0.000001, help="Largest image; checked before decoding.", rich_help_panel=_LIMITS)
    ] = 64,
    max_queue: Annotated[
        int,
        typer.Option(
            min=1,
            help="Most runs of a model that wait or are in progress; above it requests get 429. One request may have "
            "as many inputs, or 32 times as many where inputs share a run.",
            rich_help_panel=_LIMITS,
        ),
    ] = 128,
    deadline_s: Annotated[
        float, typer.Option(min=0.001, help="Longest time for one request, in seconds.", rich_help_panel=_LIMITS)
    ] = 30,
    max_connections: Annotated[
        int,
        typer.Option(
            min=1,
            help="Most HTTP connections; above it, the one that has been idle longest is closed.",
            rich_help_panel=_LIMITS,
        ),
    ] = 2048,
    drain_s: Annotated[
        float,
        typer.Option(min=0, help="Longest time to finish requests after SIGTERM, in seconds.", rich_help_panel=_LIMITS),
    ] = 30,
    memory_limit: Annotated[
        int | None,
        typer.Option(
            help="Memory of the whole server, in MB; lowers the other limits to fit. Default: no limit.",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            help="Reload an artifact when its folder changes, as SIGHUP does for all.", rich_help_panel=_OPERATION
        ),
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(help="Format of the access log on stderr, one line per request.", rich_help_panel=_OPERATION),
    ] = "text",
    root_path: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Prefix of the paths at a proxy, such as /models; the proxy may remove it or leave it on.",
            rich_help_panel=_OPERATION,
        ),
    ] = "",
    grpc_keepalive_s: Annotated[
        float,
        typer.Option(
            min=1, help="Seconds without traffic after which a gRPC client is pinged.", rich_help_panel=_OPERATION
        ),
    ] = 7200,
    grpc_pong_s: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Seconds that a pinged gRPC client has to respond before its connection is closed.",
            rich_help_panel=_OPERATION,
        ),
    ] = 20,
    grpc_min_ping_s: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Least seconds between a gRPC client's own pings; a client that pings more often is disconnected.",
            rich_help_panel=_OPERATION,
        ),
    ] = 300,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Origin whose web pages may call the HTTP API, such as https://example.com, or * for any; repeat for "
            "more. Default: none.",
            rich_help_panel=_SECURITY,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the bearer token that requests need. Default: TRUECOPY_TOKEN, or no token.",
            rich_help_panel=_SECURITY,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="TLS certificate chain, PEM.", rich_help_panel=_SECURITY)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="TLS private key, PEM.", rich_help_panel=_SECURITY)] = None,
) -> None:
    """Serve artifacts over HTTP and gRPC, with a web page to try them."""
    from runtime.server.limits import MIB, Limits

    _check_installed(with_grpc=grpc_port >= 0)
    from runtime.server.settings import Settings
    from runtime.server.startup import run_server

    run_server(
        Settings(
            artifacts=artifacts,
            host=host.removeprefix("[").removesuffix("]"),  # as URLs have addresses of IPv6
            http_port=http_port,
            grpc_port=grpc_port if grpc_port >= 0 else None,
            precision=precision,
            device=device,
            batching=batching,
            limits=Limits(
                body_bytes=int(max_body_mb * MIB),
                held_bytes=int(max_buffered_mb * MIB),
                pixels=int(max_megapixels * 1_000_000),
                queue=max_queue,
                deadline_s=deadline_s,
                connections=max_connections,
            ),
            memory_limit_bytes=None if memory_limit is None else memory_limit * MIB,
            drain_s=drain_s,
            watch=watch,
            token_file=token_file,
            tls_certificate=tls_cert,
            tls_key=tls_key,
            log_format=log_format,
            cors_origins=tuple(cors_origin or ()),
            root_path=root_path,
            grpc_keepalive_s=grpc_keepalive_s,
            grpc_pong_s=grpc_pong_s,
            grpc_min_ping_s=grpc_min_ping_s,
        )
    )


def _check_installed(*, with_grpc: bool) -> None:
    """Raise DeviceError unless the server's libraries are installed."""
    for name in (*_MODULES, *(_GRPC_MODULES if with_grpc else ())):
        if find_spec(name) is None:
            alone = " Or pass --grpc-port -1, to serve HTTP alone." if name in _GRPC_MODULES else ""
            raise DeviceError(f"'{name}': not installed. Run: pip install 'truecopy[serve,cpu]'.{alone}")
