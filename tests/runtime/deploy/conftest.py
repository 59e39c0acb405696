"""Fixtures of the tests of other engines."""

from importlib.util import find_spec

import pytest

# A deployment of the runtime alone has no server; scripts/test-wheel says so when it leaves these out.
NEEDED = {
    "container/test_build.py": ("httpx", "yaml", "uvicorn"),
    "test_kserve.py": ("httpx", "yaml", "uvicorn"),
    "ray/test_serve.py": ("httpx", "ray"),
    "ray/test_same_rows.py": ("httpx", "ray", "uvicorn"),
    "triton/test_repository.py": ("httpx",),
}

collect_ignore = [name for name, modules in NEEDED.items() if not all(map(find_spec, modules))]


@pytest.fixture(scope="session")
def ray_serving(tiny, tmp_path_factory):
    """The generated application with one replica on two cores; the queue takes 4 requests."""
    from support.ray_serving import running_ray_serve

    changes = {"max_queued_requests: 64": "max_queued_requests: 4", "max_replicas: 8": "max_replicas: 1"}
    with running_ray_serve(tiny, tmp_path_factory.mktemp("serve"), changes, cores=2) as running:
        yield running
