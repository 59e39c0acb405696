"""'truecopy serve': parse, call. What the server needs is imported when it is asked for."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from runtime.console import DEVICE_HELP
from runtime.errors import DeviceError


def serve(
    artifacts: Annotated[
        list[str], typer.Argument(metavar="ARTIFACT...", help="Folders of artifacts; NAME=FOLDER gives another name.")
    ],
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="For HTTP; 0 takes a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="For gRPC; 0 takes a free one, -1 none.")] = 8001,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    batching: Annotated[
        Literal["auto", "on", "off"], typer.Option(help="auto batches on accelerators alone.")
    ] = "auto",
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="The largest body, unpacked.")] = 32,
    max_megapixels: Annotated[float, typer.Option(help="Larger images are refused before they are decoded.")] = 64,
    max_queue: Annotated[int, typer.Option(min=1, help="Inputs that wait or run; more get 429.")] = 128,
    deadline_s: Annotated[float, typer.Option(min=0.001, help="The most time for one request.")] = 30,
    memory_limit: Annotated[int | None, typer.Option(help="MB for the whole server; lowers the other limits.")] = None,
    drain_s: Annotated[float, typer.Option(min=0, help="The most time to finish after SIGTERM.")] = 30,
    watch: Annotated[bool, typer.Option(help="Swap in an artifact when its folder changes, as SIGHUP does.")] = False,
    token_file: Annotated[
        Path | None, typer.Option(help="Requests must bring the token in this file, or in TRUECOPY_TOKEN.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="The certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    log_format: Annotated[Literal["text", "json", "none"], typer.Option(help="One line a request on stderr.")] = "text",
) -> None:
    """Serve artifacts over HTTP and gRPC, with a page to try them."""
    from runtime.server.limits import MIB, Limits

    _check_installed("uvicorn", "serve")
    from runtime.server.settings import Settings
    from runtime.server.startup import run_server

    run_server(
        Settings(
            artifacts=artifacts,
            host=host,
            http_port=http_port,
            grpc_port=grpc_port if grpc_port >= 0 else None,
            device=device,
            batching=batching,
            limits=Limits(
                body_bytes=int(max_body_mb * MIB),
                pixels=int(max_megapixels * 1_000_000),
                queue=max_queue,
                deadline_s=deadline_s,
            ),
            memory_limit_bytes=None if memory_limit is None else memory_limit * MIB,
            drain_s=drain_s,
            watch=watch,
            token_file=token_file,
            tls_certificate=tls_cert,
            tls_key=tls_key,
            log_format=log_format,
        )
    )


def _check_installed(module: str, extra: str) -> None:
    """Raise DeviceError unless ``module``, which the extra brings, is installed."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise DeviceError(f"'{module}': not installed. Run: pip install 'truecopy[{extra},cpu]'.")
