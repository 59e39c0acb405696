"""A real Triton on free ports of 127.0.0.1, from NVIDIA's wheel as 'scripts/setup triton' installs it."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = ROOT / "build" / "triton"
CLIENTS = ROOT / "tests" / "clients"
CLIENT_PYTHON = ROOT / ".venv-clients" / "bin" / "python"


def is_installed() -> bool:
    """Return whether 'scripts/setup triton' has been here, and finished."""
    return (HOME / ".installed").is_file()


@dataclass(frozen=True, kw_only=True)
class Triton:
    """A running tritonserver; ``log`` is what it wrote."""

    url: str
    grpc: str
    log: Path


class NotReadyError(AssertionError):
    """It ended, or did not become ready; the message is its log."""


@contextlib.contextmanager
def running_triton(*repositories: Path, log: Path, timeout_s: float = 120) -> Iterator[Triton]:
    """Yield a Triton that is ready with every model of ``repositories``; it ends with the block."""
    (server,) = HOME.glob("lib/python3.*/site-packages/pytriton/tritonserver")
    http, grpc = _free_ports(2)
    command = [str(server / "bin" / "tritonserver"), "--backend-directory", str(server / "backends")]
    for repository in repositories:
        command += ["--model-repository", str(repository)]
    command += ["--http-address", "127.0.0.1", "--http-port", str(http)]
    command += [
        "--grpc-address",
        "127.0.0.1",
        "--grpc-port",
        str(grpc),
        "--allow-metrics",
        "false",
        "--exit-timeout-secs",
        "10",
    ]
    library = subprocess.run(
        [str(HOME / "bin" / "python"), "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        # The backend's Python is the first on the path, and its library not always where the loader looks.
        "PATH": f"{HOME / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": library,
    }
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    running = Triton(url=f"127.0.0.1:{http}", grpc=f"127.0.0.1:{grpc}", log=log)
    try:
        until = time.monotonic() + timeout_s
        while not _is_ready(running):
            if process.poll() is not None or time.monotonic() > until:
                raise NotReadyError(log.read_text(errors="replace"))
            time.sleep(0.1)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=60)


def ask(program: str, *arguments: object, timeout_s: float = 120) -> str:
    """Return what a program of tests/clients prints; raises AssertionError, with what it said, where it fails."""
    command = [str(CLIENT_PYTHON), str(CLIENTS / f"{program}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _is_ready(triton: Triton) -> bool:
    try:
        with urllib.request.urlopen(f"http://{triton.url}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
