"""From what 'truecopy serve' was asked for to models that are loaded and verified, and to the server that runs them."""

import logging
import resource
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.engine.cpu import usable_cores
from runtime.errors import InputError
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth, read_token
from runtime.server.limits import limits_for_memory
from runtime.server.served_model import ServedModel
from runtime.server.settings import Settings, load_as

# Libraries that warn of every bad request: whoever sends them must not fill the log.
_TALKATIVE = ("uvicorn.error", "python_multipart")


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
    cores, limits = usable_cores(), settings.limits
    # Loading waits for the disk, for hashes and for the network, all outside Python's lock: what else a server needs
    # is imported meanwhile.
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as loader:
        loading = loader.submit(_load_all, settings, cores, limits.pixels)
        access, log = BearerAuth(read_token(settings.token_file)), AccessLog(settings.log_format)
        from runtime.server.lifecycle import Server

        if settings.grpc_port is not None:
            import runtime.server.grpc.app  # noqa: F401  # the server imports it once the models are there
        models = loading.result()
    if settings.memory_limit_bytes is not None:
        limits = limits_for_memory(
            limits, memory_bytes=settings.memory_limit_bytes, resident_bytes=_resident_bytes(), workers=cores
        )
        if limits.pixels < settings.limits.pixels:
            models = _load_all(settings, cores, limits.pixels)
    Server(settings, models, limits, cores, access, log).run()


def _load_all(settings: Settings, cores: int, max_pixels: int) -> list[ServedModel]:
    models = [load_as(settings, name, path, cores, max_pixels) for name, path in _named(settings.artifacts)]
    _check_names(models)
    return models


def _named(artifacts: Sequence[str]) -> list[tuple[str, Path]]:
    """Return the name, empty for the artifact's own, and the folder of each argument: ``NAME=FOLDER`` or ``FOLDER``."""
    pairs = []
    for argument in artifacts:
        name, equals, path = argument.partition("=")
        pairs.append((name, Path(path)) if equals and not Path(argument).exists() else ("", Path(argument)))
    return pairs


def _check_names(models: Sequence[ServedModel]) -> None:
    names = [loaded.name for loaded in models]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"'{name}': two models of this name: expected one of each. Write NAME=FOLDER for one.")
        if not name or "/" in name or not name.isprintable():
            raise InputError(f"'{name}': no name for a path: expected printable text without '/'. Write NAME=FOLDER.")


def _resident_bytes() -> int:
    """Return the memory that this process has in use."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * resource.getpagesize()
