"""Server settings, and the models that they name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.server.limits import Limits
from runtime.server.memory import return_free_blocks
from runtime.server.options import Batching, LogFormat
from runtime.server.served_model import ServedModel, load_verified


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of 'truecopy serve'."""

    artifacts: Sequence[str]
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int | None = 8001
    precision: str = "fp32"
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
    cors_origins: Sequence[str] = ()
    root_path: str = ""
    grpc_keepalive_s: float = 7200.0
    grpc_pong_s: float = 20.0
    grpc_min_ping_s: float = 300.0


def load_served_model(settings: Settings, name: str, path: Path, *, cores: int, max_pixels: int) -> ServedModel:
    """Return the artifact in folder ``path``, verified, under ``name``, or under its own name where that is empty."""
    model = load_verified(
        path,
        name=name,
        precision=settings.precision,
        device=settings.device,
        cores=cores,
        max_pixels=max_pixels,
        batching=settings.batching,
    )
    return_free_blocks()
    return model
