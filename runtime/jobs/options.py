"""Options of 'truecopy predict'."""

from pathlib import Path

import msgspec


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of 'truecopy predict'."""

    artifact: Path
    inputs: tuple[str, ...]
    column: str | None
    out: Path | None
    format: str | None
    resume: bool
    force: bool
    allow_errors: bool
    top_k: int
    threshold: float | None
    max_pixels: int
    device: str
    workers: int | None
    threads: int | None
    batch: int | None
    tf32: bool
    memory_limit_mb: int | None
    precision: str = "fp32"
    overlays: Path | None = None
    engine: str = "local"
    address: str | None = None
