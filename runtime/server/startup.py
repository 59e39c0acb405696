"""Server startup: load and verify the models, derive the limits, run."""

import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from runtime.engine.cpu import usable_cores
from runtime.engine.process import resident_bytes
from runtime.errors import InputError
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth, check_key_pair, check_pem_file, read_token
from runtime.server.limits import Limits, limits_for_memory
from runtime.server.loading import end_process, load_in_thread
from runtime.server.memory import return_large_blocks
from runtime.server.served_model import ServedModel
from runtime.server.settings import Settings, load_served_model

# Libraries that log a warning for every malformed request: clients must not be able to fill the log.
_NOISY_LOGGERS = {"uvicorn.error": logging.ERROR, "python_multipart": logging.ERROR, "PIL": logging.CRITICAL}


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, and return when every admitted request has its response.

    Raises ArtifactError or DeviceError when an artifact cannot be served, InputError for settings that contradict each
    other, OSError when a port is in use.
    """
    return_large_blocks()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    for name, level in _NOISY_LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise InputError("--tls-cert, --tls-key: expected both or neither, got one. Pass both files.")
    for option, path in (("--tls-cert", settings.tls_certificate), ("--tls-key", settings.tls_key)):
        if path is not None:
            check_pem_file(path, option)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        check_key_pair(settings.tls_certificate, settings.tls_key)
    if settings.http_port and settings.http_port == settings.grpc_port:
        raise InputError(
            f"--http-port, --grpc-port: both {settings.http_port}: expected two ports. Change one of them."
        )
    from runtime.server.http.cors import check_origins, check_root_path

    check_origins(settings.cors_origins)
    check_root_path(settings.root_path)
    cores, limits = usable_cores(), settings.limits
    # Loading waits for the disk, for hashes and for the network, all outside Python's lock: meanwhile the libraries of
    # the server are imported.
    auth, log = BearerAuth(read_token(settings.token_file)), AccessLog(settings.log_format)
    loading = load_in_thread(_load_models, settings, cores, limits.pixels)
    try:
        from runtime.server.lifecycle import Server

        if settings.grpc_port is not None:
            import runtime.server.grpc.app  # noqa: F401  # Server imports it when the models are loaded
        models = loading.result()
    except (SystemExit, KeyboardInterrupt):  # a signal; the golden inputs of a graph may take for ever
        end_process(128 + signal.SIGTERM)
    if settings.memory_limit_bytes is not None:
        limits = _fit_into_memory(settings, settings.memory_limit_bytes, models, cores)
    Server(settings, models, limits=limits, cores=cores, auth=auth, log=log).run()


def _fit_into_memory(settings: Settings, memory_bytes: int, models: list[ServedModel], cores: int) -> Limits:
    """Return the limits that fit into the memory; ``models`` are replaced where their images have to be smaller."""
    limits = limits_for_memory(
        settings.limits, memory_bytes=memory_bytes, resident_bytes=resident_bytes(), workers=cores
    )
    if limits.pixels < settings.limits.pixels:
        models.clear()  # both at once might not fit
        models += _load_models(settings, cores, limits.pixels)
    return limits


def _load_models(settings: Settings, cores: int, max_pixels: int) -> list[ServedModel]:
    models = [
        load_served_model(settings, name, path, cores=cores, max_pixels=max_pixels)
        for name, path in _split_names(settings.artifacts)
    ]
    _check_names([model.name for model in models])
    return models


def _split_names(artifacts: Sequence[str]) -> list[tuple[str, Path]]:
    """Return the name and the folder of each argument, ``NAME=FOLDER`` or ``FOLDER``; the latter's name is empty."""
    pairs = []
    for argument in artifacts:
        name, equals, path = argument.partition("=")
        pairs.append((name, Path(path)) if equals and not Path(argument).exists() else ("", Path(argument)))
    return pairs


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"'{name}': two models of this name. Rename one of them: NAME=FOLDER.")
        if not name or "/" in name or not name.isprintable():
            raise InputError(
                f"'{name}': no name for a path: expected printable text without '/'. Rename the model: NAME=FOLDER."
            )
