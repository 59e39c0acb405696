"""Real servers for tests, each in a process of its own, on free ports of 127.0.0.1; stopped by their own handle."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oip_table.target import Answer, Request, Target

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"


@dataclass(kw_only=True)
class Server:
    """A running 'truecopy serve'; its log as it comes."""

    process: subprocess.Popen[str]
    url: str
    grpc: str
    log: list[dict[str, Any]] = field(default_factory=list)
    other_lines: list[str] = field(default_factory=list)

    def send(self, request: Request, timeout_s: float = 30) -> Answer:
        """Return the answer to one request."""
        return self.target().send(request, timeout_s)

    def post(self, path: str, body: bytes, **headers: str) -> Answer:
        """Return the answer to a POST."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(Request(method="POST", path=path, body=body, headers=named))

    def get(self, path: str, **headers: str) -> Answer:
        """Return the answer to a GET."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(Request(method="GET", path=path, headers=named))

    def target(self, model: str = "tiny") -> Target:
        """Return the server as the protocol's table sees it."""
        return Target(url=self.url, model=model, image=(DATA / "cat.jpg").read_bytes())

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def wait_for(self, event: str, count: int = 1, timeout_s: float = 20) -> dict[str, Any]:
        """Return the ``count``-th log line of ``event``, when it is there."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            rows = [row for row in self.log if row["event"] == event]
            if len(rows) >= count:
                return rows[count - 1]
            if self.process.poll() is not None:
                time.sleep(0.2)  # what it said last is still being read
                break
            time.sleep(0.01)
        raise AssertionError(f"no '{event}' in {self.log} {self.other_lines}")

    def line_of(self, request_id: str) -> dict[str, Any]:
        """Return the log line of one request, when it is there."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for row in self.log:
                if row.get("request_id") == request_id:
                    return row
            time.sleep(0.01)
        raise AssertionError(f"no line of request '{request_id}'")

    def stop(self) -> int:
        """Stop it as an orchestrator does, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    @property
    def resident_mb(self) -> float:
        """The memory that the process has in use."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@contextlib.contextmanager
def serving(*arguments: object, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Run 'truecopy serve' with these arguments until the block ends."""
    command = [sys.executable, "-m", "truecopy", "serve", *map(str, arguments)]
    command += ["--http-port", "0", "--log-format", "json"]
    if "--grpc-port" not in arguments:
        command += ["--grpc-port", "0"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )
    server = Server(process=process, url="", grpc="")
    reader = threading.Thread(target=_read, args=(server,), daemon=True)
    reader.start()
    try:
        started = server.wait_for("serving", timeout_s=60)
        server.url, server.grpc = started["http"], started.get("grpc", "")
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)
        reader.join(timeout=5)
        if process.stderr is not None:
            process.stderr.close()


def _read(server: Server) -> None:
    assert server.process.stderr is not None
    for line in server.process.stderr:
        try:
            server.log.append(json.loads(line))
        except ValueError:
            server.other_lines.append(line)
