"""What 'truecopy deploy ray-serve' writes, run by 'serve run' on a cluster of this machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from support.deploying import deploy
from support.ray_nodes import LOOPBACK, QUIET, running_nodes


@dataclass(frozen=True, kw_only=True)
class RayServing:
    """A running application: where it answers, and the address of its cluster."""

    url: str
    cluster: str


@contextlib.contextmanager
def running_ray_serve(artifact: Path, folder: Path, changes: Mapping[str, str], *, cores: int) -> Iterator[RayServing]:
    """Yield the application, ready, on one node of ``cores``; ``changes`` are what a user edits in serve.yaml."""
    out = folder / "out"
    assert deploy("ray-serve", artifact, "--out", out).returncode == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    edited = (out / "serve.yaml").read_text()
    for before, after in {"port: 8000": f"port: {port}", **changes}.items():
        assert before in edited
        edited = edited.replace(before, after)
    (out / "serve.yaml").write_text(edited)
    with running_nodes(out, {"num_cpus": cores}) as nodes, (out / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("serve")), "run", "serve.yaml"],
            cwd=out,
            stdout=log,
            stderr=log,
            env={**os.environ, **LOOPBACK, **QUIET, "RAY_ADDRESS": nodes.address},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 120
            while not _is_ready(url):
                assert process.poll() is None, (out / "serve.log").read_text()
                assert time.monotonic() < deadline, (out / "serve.log").read_text()
                time.sleep(0.2)
            yield RayServing(url=url, cluster=nodes.address)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=60)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=30).status_code == 200
    except httpx.HTTPError:
        return False
