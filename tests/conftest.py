"""Fixtures of all tests, and the distribution of test files over processes."""

import os
import signal
from pathlib import Path, PurePath
from typing import Any

import pytest

pytest_plugins = ["oip_table.plugin"]

# Nothing is taken from the cache of the user who runs the tests: an edit of a test proves nothing then.
os.environ["CI"] = "true"

# Of a shell's background job, which ignores it, the commands under test would inherit that. The handlers that they set
# are what is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

DATA = Path(__file__).parent / "data"

# Its tests start clusters: two at once would need the cores and the memory of both.
CLUSTERS = "ray"

# A single test that runs every command of the documentation.
SLOWEST = "test_readme.py"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start with the slowest, so that no process is left with them at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: "deploy" not in item.path.parts and item.path.name != SLOWEST)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: the header of a gzip file holds the second it was made in.

    Two processes that collect at different seconds would have different tests, which xdist refuses.
    """
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, which makes its fixtures once, and all tests with a cluster in one.

    The marker ``xdist_group`` with ``--dist loadgroup`` would be shorter, but xdist 3.8 writes the group to
    ``Item._nodeid``, which pytest 9.2 no longer reads: every test then goes its own way.
    """
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "clusters" if CLUSTERS in PurePath(file).parts else file

    return Files(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def tiny() -> Path:
    """A real artifact of this format version, four classes, 32 x 32 pixels; not to be changed."""
    return DATA / "tiny"


@pytest.fixture(scope="session")
def photos() -> dict[str, Path]:
    """One photo per class, by label."""
    return {label: DATA / f"{label}.jpg" for label in ("cat", "coffee", "rocket", "astronaut")}
