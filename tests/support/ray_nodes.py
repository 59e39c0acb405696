"""A Ray cluster of several nodes on this machine, in a process of its own, steered over its stdin and stdout.

Run as a program with the nodes' options as JSON, it prints the cluster's address, then does what each line says, and
ends, with all that it started, when its stdin closes: ``kill N`` ends the processes of node N at once, as when a
machine is lost; ``add {options}`` starts another.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEGABYTE = 2**20
NODE = {
    "num_cpus": 1,
    "object_store_memory": 100 * MEGABYTE,
    "include_dashboard": False,
    "node_ip_address": "127.0.0.1",
}


# Also for the drivers of such a cluster: without it Ray takes the machine's own address for 127.0.0.1.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PYTHONWARNINGS": "ignore"}


class NodeBuilder:
    """A running cluster."""

    def __init__(self, process: subprocess.Popen[str], count: int) -> None:
        self._count = count
        self._process = process
        self.pid = process.pid
        self.address = self._line()

    def kill(self, number: int) -> None:
        """End a node; number 0, the head, is not to be killed."""
        self._do(f"kill {number}")

    def add(self, **options: Any) -> int:
        """Start another node, and return its number."""
        self._do(f"add {json.dumps(options)}")
        self._count += 1
        return self._count - 1

    def _do(self, order: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        assert self._line() == "done"

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline().strip()
        assert line, "the cluster ended"
        return line


@contextlib.contextmanager
def running_nodes(folder: Path, *nodes: dict[str, Any], **environment: str) -> Iterator[NodeBuilder]:
    """Yield a cluster with one node an entry of ``nodes``, the first its head; they run in ``folder``."""
    with (folder / "ray.stderr").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).absolute()), json.dumps(nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env={**os.environ, **LOOPBACK, **QUIET, **environment},
        )
        stuck = threading.Timer(300, process.kill)
        stuck.start()
        try:
            yield NodeBuilder(process, len(nodes))
        finally:
            stuck.cancel()
            assert process.stdin
            process.stdin.close()
            process.wait(timeout=60)
            assert process.stdout
            process.stdout.close()


def _serve(nodes: list[dict[str, Any]]) -> None:
    from ray.cluster_utils import Cluster

    # Ray prints; the first descriptor is for answers alone.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    cluster = Cluster()
    try:
        started = [cluster.add_node(**{**NODE, **options}) for options in nodes]
        answers.write(f"{cluster.address}\n")
        for line in sys.stdin:
            order, _, rest = line.strip().partition(" ")
            if order == "kill":
                cluster.remove_node(started[int(rest)], allow_graceful=False)
            else:
                started.append(cluster.add_node(**{**NODE, **json.loads(rest)}))
            answers.write("done\n")
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
