"""What all tests share; and where processes share the tests, who gets which."""

from pathlib import PurePath
from typing import Any

import pytest

pytest_plugins = ["oip_table.plugin"]

# Its tests start clusters; two at once want the cores and the memory of both.
CLUSTERS = "ray"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest, so that no process is left with them at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: "deploy" not in item.path.parts)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, which makes its fixtures once, and those with a cluster in one, too."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "clusters" if CLUSTERS in PurePath(file).parts else file

    return Files(config, log) if config.getoption("dist") == "loadfile" else None
