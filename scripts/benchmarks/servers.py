"""Servers of the benchmark: installation, start, requests, stop."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load_generator import Request, run, run_closed
from benchmarks.processes import ProcessStat, read_processes, with_descendants
from material.paths import PHOTOS, ROOT

PEERS = ROOT / "build" / "peers"
SCRIPTS = ROOT / "scripts" / "peers"

# The same versions of what does the work, for everyone.
SHARED = ["onnxruntime==1.31.1", "pillow==13.0.0", "numpy<3"]


class PeerError(Exception):
    """A server was not installed, did not start, or gave no valid response."""


def photos() -> list[bytes]:
    """Return the demo's photos."""
    return [path.read_bytes() for path in sorted(PHOTOS.iterdir())]


@dataclass(frozen=True, kw_only=True)
class ServerSetup:
    """A server: its environment, its command for a port, and the form of its requests.

    ``rate_floor`` is how many times its rate truecopy's server is to have.
    """

    name: str
    environment: str
    command: Callable[[Path, Path, int], list[str]]
    path: str = "/predict"
    wrap: Callable[[bytes], tuple[bytes, str]] = field(default=lambda body: (body, "image/jpeg"))
    variables: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    rate_floor: float = 1.0

    def request(self, body: bytes, kind: str = "good") -> Request:
        """Return the request for one image."""
        wrapped, content_type = self.wrap(body)
        return Request(path=self.path, body=wrapped, kind=kind, content_type=content_type, headers=self.headers)


def _python(script: str, *more: str) -> Callable[[Path, Path, int], list[str]]:
    return lambda bin_folder, _artifact, port: [
        str(bin_folder / "python"),
        str(SCRIPTS / script),
        *(argument.format(port=port) for argument in more),
    ]


def _uvicorn(module: str) -> Callable[[Path, Path, int], list[str]]:
    return lambda bin_folder, _artifact, port: [
        *(str(bin_folder / "python"), "-m", "uvicorn", f"{module}:app", "--app-dir", str(SCRIPTS)),
        *("--port", str(port), "--log-level", "warning"),
    ]


OURS = ServerSetup(
    name="truecopy",
    environment="truecopy",
    command=lambda bin_folder, artifact, port: [
        *(str(bin_folder / "truecopy"), "serve", f"model={artifact}"),
        *("--http-port", str(port), "--grpc-port", "0", "--log-format", "none"),
    ],
    path="/predict/model",
)

PEER_SETUPS = (
    ServerSetup(name="fastapi-pool", environment="fastapi", command=_uvicorn("fastapi_pool"), rate_floor=1.35),
    ServerSetup(name="fastapi-loop", environment="fastapi", command=_uvicorn("fastapi_loop")),
    ServerSetup(
        name="mosec",
        environment="mosec",
        command=_python("mosec_server.py", "--address", "127.0.0.1", "--port", "{port}", "--timeout", "30000"),
        path="/inference",
    ),
    ServerSetup(
        name="litserve",
        environment="litserve",
        command=_python("litserve_server.py", "{port}"),
        wrap=lambda body: (_form(body), "multipart/form-data; boundary=photo-boundary"),
    ),
    ServerSetup(
        name="bentoml",
        environment="bentoml",
        command=lambda bin_folder, _artifact, port: [
            *(str(bin_folder / "bentoml"), "serve", "bentoml_server:Classify", "--working-dir", str(SCRIPTS)),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        wrap=lambda body: (_form(body), "multipart/form-data; boundary=photo-boundary"),
        variables={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(PEERS / "bentoml" / "home")},
    ),
    ServerSetup(
        name="pytriton",
        environment="pytriton",
        command=_python("pytriton_server.py", "{port}"),
        path="/v2/models/classify/infer",
        headers={"Inference-Header-Content-Length": "0"},
    ),
    ServerSetup(
        name="ray",
        environment="ray",
        command=_python("ray_server.py", "{port}"),
        variables={"RAY_USAGE_STATS_ENABLED": "0"},
    ),
    ServerSetup(
        name="mlserver",
        environment="mlserver",
        command=_python("mlserver_server.py", "{port}"),
        path="/v2/models/classify/infer",
        wrap=lambda body: (_mlserver_body(body), "application/json"),
    ),
)


def _form(body: bytes) -> bytes:
    head = b'--photo-boundary\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
    return head + body + b"\r\n--photo-boundary--\r\n"


def _mlserver_body(body: bytes) -> bytes:
    import base64

    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"content_type": "base64"}}
    return json.dumps({"inputs": [{**tensor, "data": [base64.b64encode(body).decode()]}]}).encode()


def install(environment: str) -> Path:
    """Return the folder of an environment's programs, which is made once; raises PeerError where that fails."""
    folder = PEERS / environment
    requirements = tomllib.loads((SCRIPTS / "requirements.toml").read_text())
    if environment == "truecopy":
        packages = [
            *(str(ROOT / "kernels"), "--editable", f"{ROOT}[cpu,serve,fast]"),
            *("--constraint", str(ROOT / "constraints.txt")),
        ]
    else:
        packages = [*SHARED, *requirements[environment]]
    stamp = folder / ".installed"
    # Our own requirements are in files that change, and the native kernel is built from some.
    files = [ROOT / "pyproject.toml", ROOT / "constraints.txt", *sorted((ROOT / "kernels").glob("**/*.[chp]*"))]
    ours = [path.read_text() for path in files if path.suffix in {".toml", ".txt", ".c", ".h", ".py"}]
    state = json.dumps([*packages, *(ours if environment == "truecopy" else [])])
    if not stamp.exists() or stamp.read_text() != state:
        print(f"installing {environment} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *packages], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise PeerError(f"{environment} was not installed: {done.stderr[-500:].strip()}")
        stamp.write_text(state)
    return folder / "bin"


@dataclass(kw_only=True)
class RunningServer:
    """A running server, with the figures of its processes from /proc."""

    setup: ServerSetup
    url: str
    process: subprocess.Popen[bytes]
    started: float

    def processes(self) -> dict[int, ProcessStat]:
        """Return the server's processes: those of its session, and all that any of them started."""
        processes = read_processes()
        session = [pid for pid, process in processes.items() if process.session == self.process.pid]
        return {pid: processes[pid] for pid in sorted(with_descendants(session, processes))}

    @property
    def cpu_s(self) -> float:
        """Processor time of all its processes so far."""
        return sum(process.cpu_s for process in self.processes().values())

    @property
    def resident_mb(self) -> float:
        """Memory of all its processes; pages that they share count once."""
        total = 0.0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))) / 1024
        return total

    def wait_until_ready(self, body: bytes, *, timeout_s: float = 120) -> float:
        """Return the seconds from the process's start to its first valid response."""
        request = self.setup.request(body)
        while time.perf_counter() < self.started + timeout_s:
            if self.process.poll() is not None:
                log = (PEERS / f"{self.setup.name}.log").read_text(errors="replace")
                raise PeerError(f"{self.setup.name} ended: {log[-2000:]}")
            if run(run_closed(self.url, [request], clients=1, count=1, timeout_s=30)).statuses[200]:
                return time.perf_counter() - self.started
            time.sleep(0.02)
        raise PeerError(f"{self.setup.name} gave no response in {timeout_s} s")


def free_port() -> int:
    """Return a port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(setup: ServerSetup, artifact: Path, *more: str) -> Iterator[RunningServer]:
    """Start a server, and stop it and all that it started when the block ends."""
    bin_folder = install(setup.environment)
    port = free_port()
    environment = {**os.environ, "PEER_ARTIFACT": str(artifact), **setup.variables}
    log = PEERS / f"{setup.name}.log"
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*setup.command(bin_folder, artifact, port), *more],
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    server = RunningServer(setup=setup, url=f"http://127.0.0.1:{port}", process=process, started=started)
    try:
        yield server
    finally:
        before = {*server.processes()}  # once it has ended, those in sessions of their own cannot be traced to it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        for pid in {*before, *server.processes()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=20)
