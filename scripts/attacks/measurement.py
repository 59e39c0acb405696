"""What one request costs a server: memory above idle, time until its response, and health meanwhile."""

import contextlib
import http.client
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from support.serving import Server

from attacks.cases import Attack

MOST_MEMORY_MB, MOST_SECONDS, MOST_HEALTH_S = 300.0, 2.0, 0.1
FAULTS = {"INTERNAL", "UNKNOWN"}
_TRIES = 6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one attack; ``status`` is that of HTTP or gRPC, or the class of the error of its connection."""

    attack: str
    status: str
    memory_mb: float
    seconds: float
    health_s: float

    @property
    def is_fault(self) -> bool:
        """Whether the status is a fault of the server's."""
        return self.status in FAULTS or (self.status.startswith("5") and self.status not in {"503", "504"})

    @property
    def passed(self) -> bool:
        """Whether the cost is below the floors, and the status is no fault of the server's."""
        cheap = self.memory_mb <= MOST_MEMORY_MB and self.seconds <= MOST_SECONDS and self.health_s <= MOST_HEALTH_S
        return cheap and not self.is_fault


class Health(threading.Thread):
    """Asks for the server's health on one connection, over and over; ``longest_s`` is the worst so far."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        self.longest_s = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            started = time.monotonic()
            self._connection.request("GET", "/v2/health/live")
            self._connection.getresponse().read()
            self.longest_s = max(self.longest_s, time.monotonic() - started)
            time.sleep(0.005)


def measure(server: Server, attack: Attack, idle_mb: float) -> Cost:
    """Return what one attack costs a running server that takes ``idle_mb`` when it has nothing to do.

    One above the floors is measured again: other programs of the machine can only make it slower. Its times are then
    the shortest, and its memory the largest.
    """
    costs = [_measure(server, attack, idle_mb)]
    while not costs[-1].passed and not costs[-1].is_fault and len(costs) < _TRIES:
        costs.append(_measure(server, attack, idle_mb))
    if costs[-1].is_fault:
        return costs[-1]
    fastest = min(costs, key=lambda cost: max(cost.health_s / MOST_HEALTH_S, cost.seconds / MOST_SECONDS))
    return replace(fastest, memory_mb=max(cost.memory_mb for cost in costs))


def _measure(server: Server, attack: Attack, idle_mb: float) -> Cost:
    reset_peak(server.process.pid)
    health = Health(server.url)
    health.start()
    started = time.monotonic()
    status = send_http(server.url, attack) if attack.path else send_grpc(server.grpc, attack.body)
    seconds = time.monotonic() - started
    time.sleep(0.05)
    health.ended.set()
    health.join(timeout=60)
    memory_mb = peak_mb(server.process.pid) - idle_mb
    return Cost(attack=attack.name, status=status, memory_mb=memory_mb, seconds=seconds, health_s=health.longest_s)


def send_http(url: str, attack: Attack) -> str:
    """Return the status of one request, or the class of the error where the server closed the connection."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
    with contextlib.suppress(ConnectionError):  # refused before all of the body was sent: the response is there
        connection.request("POST", attack.path, attack.body, attack.headers)
    try:
        response = connection.getresponse()
        response.read()
        return str(response.status)
    except (ConnectionError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def send_grpc(address: str, body: bytes, *, compression: grpc.Compression | None = None) -> str:
    """Return the name of the status of one ModelInfer call with an encoded message."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options=options) as channel:
        send = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        try:
            send(body, timeout=120, compression=compression)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def reset_peak(process: int) -> None:
    """Forget the most memory that a process has used; the kernel counts anew."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def peak_mb(process: int) -> float:
    """Return the most memory that a process has used since ``reset_peak``."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
