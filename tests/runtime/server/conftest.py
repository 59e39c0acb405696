"""Fixtures of the server's tests: running servers, and photos."""

import contextlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest
from support.serving import DATA, Server, serving

# A deployment of the runtime alone has no server; scripts/test-wheel says so when it leaves these out.
SERVER_INSTALLED = all(find_spec(name) for name in ("uvicorn", "starlette", "grpc", "prometheus_client", "httpx"))

collect_ignore_glob = (
    []
    if SERVER_INSTALLED
    else [
        "test_*.py",
        "grpc/test_*.py",
        "http/test_*.py",
        "*/test_requests.py",
        "*/test_triton.py",
    ]
)


@pytest.fixture(scope="session")
def start() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """Return a function that starts a server with its own arguments."""
    return serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server of the tiny artifact, shared by the tests that only send requests."""
    with serving(DATA / "tiny") as running:
        yield running
        assert running.stop() == 0
        assert running.other_lines == []


@pytest.fixture(scope="session")
def cat() -> bytes:
    """A JPEG of a cat."""
    return (DATA / "cat.jpg").read_bytes()


@pytest.fixture(scope="session")
def rocket() -> bytes:
    """A JPEG of a rocket."""
    return (DATA / "rocket.jpg").read_bytes()
