"""Measurement of 'truecopy serve' over loopback: cost per request, start-up time, memory."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median
from typing import IO
from urllib.parse import urlsplit

from capacity.bodies import Body
from capacity.measurement import ServerCost
from runtime.errors import DeviceError, InputError
from runtime.server.jobs import STAGES

_LEAST_REQUESTS = 20

# The model's name in the server.
NAME = "measured"


@dataclass(frozen=True, kw_only=True)
class _Response:
    seconds: float
    stages_s: float
    size_bytes: int


def measure_server(artifact: Path, bodies: Sequence[Body], *, device: str, cores: int, seconds: float) -> ServerCost:
    """Return the cost of the server around the stages, measured with its cores busy and with one request at a time.

    Raises DeviceError where the server is not installed or does not start, InputError for an input that it refuses.
    """
    if find_spec("uvicorn") is None:
        raise DeviceError("'uvicorn': not installed. Run: pip install 'truecopy[serve,cpu]'.")
    if not Path("/proc/self/schedstat").exists():
        raise DeviceError(
            "server: cannot be measured on this system: expected Linux's /proc/self/schedstat. "
            "Measure on Linux, and plan with --measured."
        )
    with serving(artifact, device=device, cores=sorted(os.sched_getaffinity(0))[-cores:]) as server:
        _send_all(server.url, bodies, clients=cores, seconds=min(0.5, seconds))
        lone = _send_all(server.url, bodies, clients=1, seconds=seconds)
        before = server.thread_seconds()
        busy = _send_all(server.url, bodies, clients=2 * cores, seconds=seconds)
        after = server.thread_seconds()
        resident_mb = server.resident_mb
    loop = server.process.pid
    loop_s = (after[loop] - before[loop]) / len(busy)
    worker_s = sum(after[thread] - before.get(thread, 0.0) for thread in after if thread != loop) / len(busy)
    return ServerCost(
        requests=len(busy),
        loop_ms=loop_s * 1000,
        worker_ms=worker_s * 1000,
        outside_ms=max(0.0, median(response.seconds - response.stages_s for response in lone) - loop_s) * 1000,
        lone_p50_ms=median(response.seconds for response in lone) * 1000,
        start_s=server.start_s,
        resident_mb=resident_mb,
        response_bytes=round(fmean(response.size_bytes for response in busy)),
    )


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running 'truecopy serve', and the seconds from its start to ready."""

    process: "subprocess.Popen[str]"
    url: str
    start_s: float

    def thread_seconds(self) -> dict[int, float]:
        """Return the processor seconds of each of its threads; the event loop's thread has the process's own id."""
        seconds = {}
        for folder in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                seconds[int(folder.name)] = int((folder / "schedstat").read_text().split()[0]) / 1e9
        return seconds

    @property
    def resident_mb(self) -> float:
        """Its resident memory in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 2**20


@contextlib.contextmanager
def serving(artifact: Path, *, device: str, cores: Collection[int]) -> Iterator[Server]:
    """Run a server of the artifact, as model ``NAME``, on these cores alone; stop it at the end."""
    command = [
        sys.executable,
        "-m",
        "truecopy",
        "serve",
        f"{NAME}={artifact.resolve()}",
    ]
    command += ["--device", device, "--http-port", "0", "--grpc-port", "0", "--log-format", "json"]
    allowed = os.sched_getaffinity(0)
    started = time.perf_counter()
    os.sched_setaffinity(0, cores)  # a process that is started has its parent's
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    finally:
        os.sched_setaffinity(0, allowed)
    try:
        url = _address(process)
        start_s = time.perf_counter() - started
        assert process.stderr is not None
        # Its log is read and dropped: a full pipe would block the server.
        reader = threading.Thread(target=_read_all, args=(process.stderr,), daemon=True)
        reader.start()
        yield Server(process=process, url=url, start_s=start_s)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=40)
        reader.join(timeout=5)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def _read_all(stream: IO[str]) -> None:
    with contextlib.suppress(ValueError, OSError):  # it was closed
        for _ in stream:
            pass


def _address(process: "subprocess.Popen[str]") -> str:
    """Return the URL that the server reports once it listens."""
    assert process.stderr is not None
    last = ""
    for line in process.stderr:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if row.get("event") == "serving":
                return str(row["http"])
        last = line.strip() or last
    raise DeviceError(f"'truecopy serve': did not start: {last.removeprefix('error: ') or 'no output'}")


def _send_all(url: str, bodies: Sequence[Body], *, clients: int, seconds: float) -> list[_Response]:
    """Return the responses to ``clients`` that each send the next request as soon as they have a response."""
    responses: list[_Response] = []
    errors: list[Exception] = []
    end = time.perf_counter() + seconds
    address = urlsplit(url)

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        try:
            turn = number
            while not errors and (turn < _LEAST_REQUESTS * clients or time.perf_counter() < end):
                responses.append(_send(connection, bodies[turn % len(bodies)]))
                turn += clients
        except Exception as error:  # raised again by the calling thread
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=client, args=(number,), name=f"client-{number}") for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        error = errors[0]
        if isinstance(error, InputError):
            raise error
        raise DeviceError(f"'truecopy serve': stopped responding: {error}. Run it by hand to see why.") from error
    return responses


def _send(connection: http.client.HTTPConnection, body: Body) -> _Response:
    started = time.perf_counter()
    connection.request("POST", f"/predict/{NAME}", body.content, {"Content-Type": body.media_type})
    response = connection.getresponse()
    content = response.read()
    seconds = time.perf_counter() - started
    if response.status != 200:
        reason = content.decode(errors="replace")[:300]
        with contextlib.suppress(ValueError, TypeError, KeyError):
            reason = json.loads(content)["error"]
        raise InputError(f"'{body.name}': refused by the server: {reason}")
    timing = response.getheader("server-timing", "")
    stages = dict(part.split(";dur=") for part in timing.split(", "))
    headers = sum(len(name) + len(value) + 4 for name, value in response.getheaders())
    return _Response(
        seconds=seconds,
        stages_s=sum(float(stages[stage]) for stage in STAGES) / 1000,
        size_bytes=len(content) + headers,
    )
